"""Makes the built-in session: a few seconds of all seven feeds, in the venues' documented shapes, from one seed.

The frames are written from the protocol pages alone. They go through the real door and sessions, so that REST
snapshots are answered when they are asked for, and what is recorded is what a live run would have recorded.
"""
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from zlib import crc32

from onetape import demo
from onetape.clock import MILLISECOND, SECOND
from onetape.feed.door import Door
from onetape.feed.inputs import Answer, Frame, Input, Opened
from onetape.feed.plan import plan
from onetape.feed.recording import Header, RecordingWriter, Setup
from onetape.feed.session import Session
from onetape.model import Channel, Fetch, Instrument, InstrumentId, Kind, Subscription
from onetape.venues import VENUES, create

SEED = 20_261_121
START = 1_795_000_000 * SECOND
LENGTH = 15 * SECOND
STEP = 100 * MILLISECOND
MID = {"BTC": Decimal("83725.90"), "ETH": Decimal("2683.40"), "SOL": Decimal("143.27")}
LOT = Decimal("0.0001")
# venue: quote, spelling, tick
SYMBOLS: dict[str, tuple[str, str, Decimal]] = {
    "binance": ("USDT", "{}USDT", Decimal("0.01")),
    "binance-usdm": ("USDT", "{}USDT", Decimal("0.10")),
    "coinbase": ("USD", "{}-USD", Decimal("0.01")),
    "coinbase-exchange": ("USD", "{}-USD", Decimal("0.01")),
    "kraken": ("USD", "{}/USD", Decimal("0.1")),
    "okx": ("USDT", "{}-USDT", Decimal("0.1")),
    "bybit": ("USDT", "{}USDT", Decimal("0.01")),
}
DEPTH = {"kraken": 10, "okx": 400, "bybit": 50}


@dataclass
class Market:
    """One instrument's true book, in ticks and lots."""

    venue: str
    base: str
    random: Random
    tick: Decimal
    mid: int
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    sequence: int = 5_000_000
    trades: int = 700_000
    shown: tuple[dict[int, int], dict[int, int]] = ({}, {})

    @property
    def symbol(self) -> str:
        return SYMBOLS[self.venue][1].format(self.base)

    def move(self) -> None:
        self.mid += round(self.random.gauss(0, 3))
        for book, side in ((self.bids, -1), (self.asks, 1)):
            for price in [it for it in book if (it - self.mid) * side <= 0 or abs(it - self.mid) > 120]:
                del book[price]
            for _ in range(self.random.randint(1, 4) if len(book) > 30 else 40):
                price = self.mid + side * (1 + int(self.random.expovariate(1 / 25)))
                book[price] = self.random.randint(1, 40_000)

    def view(self, depth: int) -> tuple[dict[int, int], dict[int, int]]:
        bids = sorted(self.bids, reverse=True)[: depth or None]
        asks = sorted(self.asks)[: depth or None]
        return {it: self.bids[it] for it in bids}, {it: self.asks[it] for it in asks}

    def price(self, ticks: int) -> str:
        return f"{ticks * self.tick:f}"

    def levels(self, side: dict[int, int]) -> list[list[str]]:
        return [[self.price(price), f"{size * LOT:f}"] for price, size in side.items()]

    def changes(self, depth: int) -> tuple[dict[int, int], dict[int, int]]:
        """What differs from the view shown last; gone levels have size 0."""
        now = self.view(depth)
        both = []
        for old, new in zip(self.shown, now, strict=True):
            changed = {price: size for price, size in new.items() if old.get(price) != size}
            both.append(changed | {price: 0 for price in old if price not in new})
        self.shown = now
        self.sequence += 1
        return both[0], both[1]

    def trade(self) -> tuple[int, str, str, str]:
        """id, price, size, taker's side"""
        self.trades += 1
        side = self.random.choice(["buy", "sell"])
        price = min(self.asks) if side == "buy" else max(self.bids)
        return self.trades, self.price(price), f"{self.random.randint(1, 9_000) * LOT:f}", side


def iso(time: int) -> str:
    return f"{datetime.fromtimestamp(time / SECOND, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def maker(side: str) -> str:
    return {"buy": "sell", "sell": "buy"}[side]


# --- the venues' own shapes: acks, first frames, and what comes every step -------------------------------------------


class Writer:
    """Frames of one connection."""

    def __init__(self, venue: str, route: str, markets: list[Market], channels: set[Channel]) -> None:
        self.venue, self.route, self.markets, self.channels = venue, route, markets, channels
        self.count = 0
        self.frames: Callable[[Market, int, bool], Iterator[object]] = {
            "binance": self.binance, "binance-usdm": self.binance_usdm, "coinbase": self.coinbase,
            "coinbase-exchange": self.coinbase_exchange, "kraken": self.kraken, "okx": self.okx, "bybit": self.bybit,
        }[venue]

    def step(self, time: int, *, first: bool) -> Iterator[bytes]:
        for market in self.markets:
            if Channel.BOOK in self.channels or first:
                market.move()
            for frame in self.frames(market, time, first):
                yield frame if isinstance(frame, bytes) else json.dumps(frame, separators=(",", ":")).encode()

    def binance(self, it: Market, time: int, first: bool) -> Iterator[object]:
        name, ms = it.symbol.lower(), time // MILLISECOND
        before = it.sequence
        bids, asks = it.changes(0)
        it.sequence += it.random.randint(0, 5)
        yield {"stream": f"{name}@depth@100ms", "data": {
            "e": "depthUpdate", "E": ms, "s": it.symbol, "U": before + 1, "u": it.sequence, "b": it.levels(bids),
            "a": it.levels(asks)}}
        if it.random.random() < 0.5:
            id, price, size, side = it.trade()
            yield {"stream": f"{name}@trade", "data": {
                "e": "trade", "E": ms, "s": it.symbol, "t": id, "p": price, "q": size, "T": ms, "m": side == "sell",
                "M": True}}

    def binance_usdm(self, it: Market, time: int, first: bool) -> Iterator[object]:
        name, ms = it.symbol.lower(), time // MILLISECOND
        if Channel.BOOK in self.channels:
            before = it.sequence
            bids, asks = it.changes(0)
            it.sequence += it.random.randint(50, 900)
            yield {"stream": f"{name}@depth@100ms", "data": {
                "e": "depthUpdate", "E": ms, "T": ms, "s": it.symbol, "U": before + 7, "u": it.sequence, "pu": before,
                "b": it.levels(bids), "a": it.levels(asks), "ps": it.symbol, "st": 1}}
        elif it.random.random() < 0.5:
            id, price, size, side = it.trade()
            yield {"stream": f"{name}@aggTrade", "data": {
                "e": "aggTrade", "E": ms, "s": it.symbol, "a": id, "p": price, "q": size, "nq": size, "f": 3 * id,
                "l": 3 * id + 2, "T": ms, "m": side == "sell", "st": 1}}

    def coinbase(self, it: Market, time: int, first: bool) -> Iterator[object]:
        bids, asks = it.changes(0)
        updates = [
            {"side": side, "event_time": iso(time), "price_level": price, "new_quantity": size}
            for side, levels in (("bid", bids), ("offer", asks)) for price, size in it.levels(levels)
        ]
        yield self._at("l2_data", time, {
            "type": "snapshot" if first else "update", "product_id": it.symbol, "updates": updates})
        if it.random.random() < 0.5:
            id, price, size, side = it.trade()
            yield self._at("market_trades", time, {"type": "update", "trades": [{
                "trade_id": str(id), "product_id": it.symbol, "price": price, "size": size,
                "side": maker(side).upper(), "time": iso(time)}]})
        if time % SECOND == 0 and it is self.markets[0]:
            yield self._at("heartbeats", time, {"current_time": "", "heartbeat_counter": time // SECOND})

    def _at(self, channel: str, time: int, event: object) -> object:
        self.count += 1
        return {"channel": channel, "client_id": "", "timestamp": iso(time), "sequence_num": self.count - 1,
                "events": [event]}

    def coinbase_exchange(self, it: Market, time: int, first: bool) -> Iterator[object]:
        bids, asks = it.changes(0)
        if first:
            yield {"type": "snapshot", "product_id": it.symbol, "asks": it.levels(asks), "bids": it.levels(bids)}
        else:
            changes = [["buy", *level] for level in it.levels(bids)] + [["sell", *level] for level in it.levels(asks)]
            yield {"type": "l2update", "product_id": it.symbol, "changes": changes, "time": iso(time)}
        if it.random.random() < 0.5:
            id, price, size, side = it.trade()
            yield {"type": "match", "trade_id": id, "side": maker(side), "size": size, "price": price,
                   "product_id": it.symbol, "sequence": 40 * id, "time": iso(time)}
        if time % SECOND == 0:
            yield {"type": "heartbeat", "sequence": it.sequence, "last_trade_id": it.trades,
                   "product_id": it.symbol, "time": iso(time)}

    def kraken(self, it: Market, time: int, first: bool) -> Iterator[object]:
        bids, asks = it.changes(10)
        top = [it.levels(side) for side in (it.shown[1], it.shown[0])]
        digits = "".join(text.replace(".", "").lstrip("0") for side in top for level in side for text in level)
        both = [
            ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in it.levels(side)) for side in (bids, asks)
        ]
        kind = "snapshot" if first else "update"
        yield (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{it.symbol}","bids":[{both[0]}],'
            f'"asks":[{both[1]}],"checksum":{crc32(digits.encode())},"timestamp":"{iso(time)}"}}]}}'
        ).encode()
        if it.random.random() < 0.5:
            id, price, size, side = it.trade()
            yield (
                f'{{"channel":"trade","type":"update","data":[{{"symbol":"{it.symbol}","side":"{side}",'
                f'"price":{price},"qty":{size},"ord_type":"limit","trade_id":{id},"timestamp":"{iso(time)}"}}]}}'
            ).encode()

    def okx(self, it: Market, time: int, first: bool) -> Iterator[object]:
        ms = str(time // MILLISECOND)
        if Channel.BOOK in self.channels:
            before = it.sequence
            bids, asks = ([[*level, "0", "1"] for level in it.levels(side)] for side in it.changes(0))
            it.sequence += it.random.randint(1, 9)
            yield {"arg": {"channel": "books", "instId": it.symbol}, "action": "snapshot" if first else "update",
                   "data": [{"asks": asks, "bids": bids, "ts": ms, "checksum": 0, "prevSeqId": -1 if first else before,
                             "seqId": it.sequence}]}
        elif it.random.random() < 0.5:
            id, price, size, side = it.trade()
            yield {"arg": {"channel": "trades-all", "instId": it.symbol}, "data": [{
                "instId": it.symbol, "tradeId": str(id), "px": price, "sz": size, "side": side, "source": "0",
                "ts": ms}]}

    def bybit(self, it: Market, time: int, first: bool) -> Iterator[object]:
        ms = time // MILLISECOND
        bids, asks = it.changes(50)
        yield {"topic": f"orderbook.50.{it.symbol}", "type": "snapshot" if first else "delta", "ts": ms,
               "data": {"s": it.symbol, "b": it.levels(bids), "a": it.levels(asks), "u": it.sequence,
                        "seq": 3 * it.sequence}, "cts": ms}
        if it.random.random() < 0.5:
            id, price, size, side = it.trade()
            yield {"topic": f"publicTrade.{it.symbol}", "type": "snapshot", "ts": ms, "data": [{
                "T": ms, "s": it.symbol, "S": side.capitalize(), "v": size, "p": price,
                "i": str(2_290_000_000_000_000_000 + id), "BT": False, "RPI": False, "seq": 3 * it.sequence}]}


# --- the session ----------------------------------------------------------------------------------------------------


def snapshot(market: Market) -> bytes:
    bids, asks = market.levels(market.shown[0]), market.levels(market.shown[1])
    return json.dumps({"lastUpdateId": market.sequence, "bids": bids, "asks": asks}).encode()


def instrument(venue: str, base: str) -> Instrument:
    quote, spelling, tick = SYMBOLS[venue]
    perpetual = venue == "binance-usdm"
    return Instrument(
        id=InstrumentId(venue, spelling.format(base)), pair=f"{base}-{quote}{'-PERP' if perpetual else ''}", base=base,
        quote=quote, kind=Kind.PERPETUAL if perpetual else Kind.SPOT, tradable=True, status="demo", tick_size=tick,
        lot_size=LOT,
    )


def main() -> None:
    random = Random(SEED)
    door, writers, setups = Door(), {}, {}
    markets = {
        (venue, base): Market(venue, base, random, tick, int(mid / tick))
        for venue, (_, _, tick) in SYMBOLS.items() for base, mid in MID.items()
    }
    for venue in SYMBOLS:
        mine = [markets[venue, base] for base in MID]
        tape = VENUES[venue].spec.capabilities.tape
        wanted = [
            Subscription(it.symbol, channel, DEPTH.get(venue, 0) if channel is Channel.BOOK else 0)
            for it in mine for channel in (Channel.BOOK, tape)
        ]
        for connection in plan(VENUES[venue], wanted):
            name = connection.name
            setups[name] = Setup(venue, connection.route, connection.subscriptions)
            writers[name] = Writer(venue, connection.route, mine, {it.channel for it in connection.subscriptions})
            door.sessions[name] = Session(create(venue, connection.route), connection.subscriptions, START)
    header = Header(1, setups, tuple(instrument(venue, base) for venue in SYMBOLS for base in MID))
    with RecordingWriter(demo.SESSION, header) as out:
        due: list[tuple[int, str, Fetch]] = []

        def enter(kind: type[Input], name: str, time: int, **rest: object) -> None:
            number, time = door.stamp(time)
            it = kind(number=number, time=time, connection=name, **rest)  # type: ignore[arg-type]
            out.add(it)
            for where, outcome in door.enter(it):
                if isinstance(outcome, Fetch):
                    due.append((time + 150 * MILLISECOND, where, outcome))

        for name in writers:
            enter(Opened, name, START)
        for time in range(START + STEP, START + LENGTH, STEP):
            for name, writer in writers.items():
                for number, frame in enumerate(writer.step(time, first=time == START + STEP)):
                    enter(Frame, name, time + number * MILLISECOND, data=frame)
            for it in [it for it in due if it[0] <= time + STEP]:
                due.remove(it)
                at, name, fetch = it
                market = next(each for each in writers[name].markets if each.symbol == fetch.request.symbol)
                enter(Answer, name, at, id=fetch.id, status=200, body=snapshot(market))


if __name__ == "__main__":
    main()
