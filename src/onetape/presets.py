"""Ready-made settings for ``onetape config init``, and what each setting is for."""
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct


class Preset(Struct, frozen=True):
    says: str
    values: Mapping[str, Any]
    """As a settings file would hold them; what is not in there is as by default."""


PERPETUALS = ["BTC-USDT-PERP", "ETH-USDT-PERP", "SOL-USDT-PERP"]
DOLLARS = ["BTC-USD", "ETH-USD", "SOL-USD"]
TETHERS = ["BTC-USDT", "ETH-USDT", "SOL-USDT"]
OF_OKX = [f"{base}-USDT" for base in ("BTC", "ETH", "SOL", "DOGE", "TON", "UNI", "PEPE")] + ["BTC-USDC", "ETH-USDC"]
FULL = ["trades", "book", "quotes"]
FOREVER = {"max_attempts": 0}


def _one(venue: str, says: str, pairs: list[str], channels: list[str], depth: int) -> Preset:
    return Preset(says, {
        "pairs": pairs, "channels": channels, "depth": depth, "reconnect": FOREVER,
        "venues": {venue: {"enabled": True}},
    })


PRESETS: Mapping[str, Preset] = MappingProxyType({
    "five-venues": Preset(
        "Bitcoin, Ether and Solana against the dollar and Tether at five exchanges.",
        {
            "pairs": [*TETHERS, *DOLLARS], "channels": FULL, "depth": 200, "reconnect": FOREVER,
            "venues": {name: {"enabled": True} for name in ("binance", "coinbase", "kraken", "okx", "bybit")},
        },
    ),
    "seven-feeds": Preset(
        "All that there is: the five exchanges, Binance's perpetuals, and both feeds of Coinbase.",
        {
            "pairs": [*TETHERS, *DOLLARS], "channels": FULL, "depth": 200, "reconnect": FOREVER,
            "venues": {
                "binance": {"enabled": True}, "binance-usdm": {"pairs": PERPETUALS}, "coinbase": {"enabled": True},
                "coinbase-exchange": {"pairs": DOLLARS, "channels": ["trades", "book"]}, "kraken": {"enabled": True},
                "okx": {"pairs": [*TETHERS, *PERPETUALS]}, "bybit": {"pairs": [*TETHERS, *PERPETUALS]},
            },
        },
    ),
    "okx": _one("okx", "Trades, books of 5 levels and tickers of nine pairs at OKX.", OF_OKX,
                ["trades", "book", "ticker"], 5),
    "binance": _one("binance", "Trades, books and quotes at Binance, spot.", TETHERS, FULL, 200),
    "binance-usdm": _one("binance-usdm", "Trades, books and quotes of Binance's USD-M perpetuals.", PERPETUALS,
                         FULL, 200),
    "coinbase": _one("coinbase", "Trades, books and quotes at Coinbase.", DOLLARS, FULL, 200),
    "kraken": _one("kraken", "Trades, books and quotes at Kraken.", [*DOLLARS, *TETHERS], FULL, 100),
    "bybit": _one("bybit", "Trades, books and quotes at Bybit, spot.", TETHERS, FULL, 200),
})

OFFERED: Mapping[str, Any] = MappingProxyType({
    "proxy": "socks5://127.0.0.1:1080", "postgres": "postgresql://onetape@localhost/market",
    "timings.connect": 10.0, "timings.ping_every": 20.0, "timings.pong_wait": 10.0, "timings.ack": 10.0,
    "timings.first_frame": 30.0, "timings.silence": 30.0, "timings.heartbeat": 60.0, "timings.rotate_after": 82_800.0,
    "timings.refresh": 3_600.0, "timings.audit": 60.0,
    "venues.*.environment": "testnet", "venues.*.pairs": ["BTC-USDT"], "venues.*.channels": ["trades", "book"],
    "venues.*.depth": 50, "venues.*.intervals": ["1m"], "venues.*.websocket": "ws://127.0.0.1:9000",
    "venues.*.rest": "http://127.0.0.1:9001", "venues.*.history": "http://127.0.0.1:9001",
    "retention.trades": ["90d", "50GB"], "retention.candles": "3650d", "retention.quotes": "30d",
    "retention.book_snapshots": "30d", "retention.book_deltas": "7d", "retention.feed_status": "90d",
    "retention.quarantine": "30d",
    "redundancy": 2, "venues.*.redundancy": 2, "venues.*.proxy": "http://127.0.0.1:3128",
    "venues.*.local_address": "127.0.0.1",
})
"""Examples for settings that are not given by default; ``*``: at any venue."""

MEANINGS: Mapping[str, str] = MappingProxyType({
    "environment": "Of the venues that have more than one: production, testnet, demo or sandbox.",
    "pairs": "BTC-USDT is spot, BTC-USDT-PERP the perpetual; a venue that lacks a pair goes on with the others.",
    "channels": "Of trades, agg_trades, quotes, ticker, candles, book and status: see onetape venues.",
    "depth": "Levels of each side of a book, or the venue's next depth up.",
    "intervals": "Of the venues' own candles, where the channel candles is wanted.",
    "store": "The folder where all is kept.",
    "postgres": "Where all that is kept is brought as well; a password is better in PGPASSWORD or ~/.pgpass.",
    "stop_within": "Seconds from the request to stop until what is left is given up.",
    "proxy": "For all connections: http, https, socks4 or socks5, with user:password@ if need be.",
    "redundancy": "Connections for the same subscriptions, 1 to 4: what one loses another has. By default 2 for Bybit,"
                  " whose ids do not prove that nothing was lost, else 1.",
    "backfill": "Trades that are missing are asked for by REST.",
    "backfill.enabled": "false: gaps are told, and stay.",
    "backfill.max_age": "Seconds; what is missing for longer is not asked for by itself.",
    "timings": "Seconds; 0 switches one off. What is not given is each venue's own.",
    "timings.connect": "Until a connection stands.",
    "timings.ping_every": "Between two pings.",
    "timings.pong_wait": "For the answer to a ping.",
    "timings.ack": "For the answer to a subscription.",
    "timings.first_frame": "For the first data of a subscription.",
    "timings.silence": "Without any frame until the connection is made anew.",
    "timings.heartbeat": "Without the venue's own heartbeat until then.",
    "timings.rotate_after": "Age at which a connection is replaced, before the venue cuts it.",
    "timings.refresh": "Between two looks at the list of instruments: what is listed, delisted or renamed.",
    "timings.audit": "Between two comparisons of a live book with what REST shows, for each connection.",
    "reconnect": "Waits between attempts to connect.",
    "reconnect.base": "Seconds before the second attempt; each further wait is twice as long.",
    "reconnect.cap": "The longest wait,",
    "reconnect.long_cap": "and after many failures in a row.",
    "reconnect.jitter": "Part of the wait that is left to chance, 0 to 1.",
    "reconnect.max_attempts": "Failures in a row after which only a probe every 5 minutes is made; 0: never give up.",
    "log": "On stderr.",
    "log.format": "console or json.",
    "log.level": "debug, info, warning or error.",
    "candles": "Made of the trades.",
    "candles.intervals": "Each from the one before it: s, m, h, d and w are known.",
    "candles.carry_empty": "Candles of intervals without a trade: the last price carried forward, or none.",
    "candles.lateness": "Seconds after its end until a candle is final.",
    "keep": "What is stored beside trades, candles and gaps.",
    "keep.quotes": "Every change of the best bid and ask.",
    "keep.deltas": "Every change of a book: much.",
    "keep.snapshot_every": "Seconds between two stored snapshots of a book,",
    "keep.snapshot_depth": "of so many levels a side.",
    "storage": "How what is stored gets to the disk.",
    "storage.synchronous": "normal: a crash loses nothing, a loss of power perhaps the last seconds; full: neither,"
                           " but every batch waits for the disk; off: the system writes when it likes.",
    "storage.held_rows": "In memory, while the disk takes none; beyond, books go first and trades last, all counted.",
    "upkeep": "What a run does for its store beside collecting, at low priority.",
    "upkeep.compact_every": "How often what is finished of the journal moves into the lake, and what is too old or too"
                            " large goes; 0: never, then onetape storage compact and prune are yours to call.",
    "upkeep.keep_journal": "How long the journal keeps what the lake has.",
    "retention": "How long a table is kept, or up to which size, or both; whole days go, the oldest first, never the"
                 " last one. Without a limit it is kept for good. Gaps, and which ids were had, always are.",
    "retention.trades": "An age, a size, or both.",
    "retention.candles": "They outlive the trades they were made of, and cost little.",
    "retention.quotes": "The best bid and ask.",
    "retention.book_snapshots": "Of books.",
    "retention.book_deltas": "Every change of a book, where keep.deltas asks for them.",
    "retention.feed_status": "Which book could be trusted when.",
    "retention.quarantine": "What could not be read or believed.",
    "venues": "The venues that run. What is given for one goes before what is said above; so do its tables"
              " [venues.NAME.timings] and [venues.NAME.reconnect], the latter as a whole.",
    "venues.*.enabled": "false: not now.",
    "venues.*.environment": "Instead of that of all.",
    "venues.*.pairs": "Of this venue alone; it must then have them all.",
    "venues.*.channels": "Of this venue alone.",
    "venues.*.depth": "Of its books.",
    "venues.*.intervals": "Of its own candles.",
    "venues.*.websocket": "Instead of the venue's own: an address, several to be tried in turn, or such by route.",
    "venues.*.rest": "Likewise.",
    "venues.*.history": "Likewise, for the trades of the past, where another host has them (coinbase).",
    "venues.*.redundancy": "Connections for the same subscriptions.",
    "venues.*.proxy": "Instead of that of all.",
    "venues.*.local_address": "The address of this machine to connect from.",
    "venues.*.deflate": "Ask for compressed frames: less to receive, more to do.",
})
"""By path, as ``onetape config init`` writes them; ``*``: at any venue."""
