"""What clients may ask of the simulated Kraken over the WebSocket, and what is wrong with a request."""
from re import compile as pattern
from typing import TypeVar

from msgspec import DecodeError, Raw, Struct, json

from onetape.sim.venues.kraken_channels import TOPICS, Option

DEPTHS = (10, 25, 100, 500, 1000)
INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
TRIGGERS = ("trades", "bbo")
PRIVATE = frozenset({"executions", "balances", "level3", "orders"})
PRIVATE_ERROR = "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
MALFORMED = "Malformed request"
OHLC_WARNING = "timestamp is deprecated, use interval_begin"
OPTION_NAMES = {"book": "depth", "ohlc": "interval", "ticker": "event_trigger"}

T = TypeVar("T")
_PAIR = pattern(r"[A-Za-z0-9.]{1,20}/[A-Za-z0-9.]{1,20}")


class Request(Struct):
    method: str
    params: Raw = Raw(b"{}")
    req_id: int | None = None


class Params(Struct):
    channel: str
    symbol: tuple[str, ...] = ()
    depth: int = 10
    interval: int = 1
    event_trigger: str = "trades"
    snapshot: bool | None = None


_REQUEST = json.Decoder(Request)
_PARAMS = json.Decoder(Params)


def read_request(frame: bytes) -> Request | None:
    """None for whatever a client may send that is no request."""
    return _decoded(_REQUEST, frame)


def read_params(params: Raw) -> Params | None:
    return _decoded(_PARAMS, params)


def _decoded(decoder: "json.Decoder[T]", data: bytes | Raw) -> T | None:
    try:
        return decoder.decode(data)
    except (DecodeError, UnicodeError, RecursionError):
        return None


def is_pair(symbol: str) -> bool:
    """Whether it looks like one; that the pair exists is another question."""
    return _PAIR.fullmatch(symbol) is not None


def wrong(params: Params) -> str | None:
    """What is wrong with a request as a whole: such a failure names no symbol."""
    match params.channel:
        case "instrument":
            return None
        case channel if channel in PRIVATE:
            return PRIVATE_ERROR
        case channel if channel not in TOPICS or not params.symbol:
            return MALFORMED
        case "book" if params.depth not in DEPTHS:
            return "Subscription depth not supported"
        case "ohlc" if params.interval not in INTERVALS:
            return "Subscription ohlc interval not supported"
        case "ticker" if params.event_trigger not in TRIGGERS:
            return MALFORMED
    return None


def option(params: Params) -> Option:
    match params.channel:
        case "book":
            return params.depth
        case "ohlc":
            return params.interval
        case "ticker":
            return params.event_trigger
    return ""


def echo(params: Params, symbol: str, snapshot: bool | None) -> dict[str, object]:
    """What an ack repeats, in the alphabet's order like the captured ones; ``snapshot`` only on subscribing."""
    result: dict[str, object] = {"channel": params.channel}
    name = OPTION_NAMES.get(params.channel)
    if name is not None:
        result[name] = option(params)
    if snapshot is not None:
        result["snapshot"] = snapshot
    if symbol:
        result["symbol"] = symbol
    if params.channel == "ohlc":
        result["warnings"] = [OHLC_WARNING]
    return result
