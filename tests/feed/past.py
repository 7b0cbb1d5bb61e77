"""A venue's past for tests of backfill: trades by id, and the page that a request of Binance's gets."""
import json
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

from onetape.clock import MILLISECOND
from onetape.model import Channel, Side, Source, Trade


class Past:
    """Trade N happened at ``at`` + N steps."""

    def __init__(self, ids, at, step):
        self.ids, self.at, self.step = sorted(ids), at, step

    def time(self, id):
        return self.at + id * self.step

    def trade(self, id, received):
        return Trade(
            venue="binance", symbol="BTCUSDT", exchange_time=self.time(id), received_time=received,
            available_at=received, channel=Channel.TRADES, id=str(id), after=id - 1, price=Decimal(f"{id}.50"),
            size=Decimal(1), side=Side.BUY, source=Source.BACKFILL,
        )

    def binance(self, path):
        asked = parse_qs(urlsplit(path).query)
        most = int(asked["limit"][0])
        first = int(asked["fromId"][0]) if "fromId" in asked else self.ids[-most:][0]
        return json.dumps([
            {"id": id, "price": f"{id}.50", "qty": "1", "quoteQty": "1",
             "time": self.time(id) // MILLISECOND, "isBuyerMaker": False, "isBestMatch": True}
            for id in self.ids if id >= first
        ][:most]).encode()
