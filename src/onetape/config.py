"""Settings: one file, the environment and flags, checked whole before anything is done."""
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from onetape.clock import DAY, interval_ns
from onetape.credentials import VARIABLES
from onetape.errors import UsageError
from onetape.nearest import nearest

VENUES = ("binance", "binance-usdm", "coinbase", "coinbase-exchange", "kraken", "okx", "bybit")
FIVE = ("binance", "coinbase", "kraken", "okx", "bybit")
CHANNELS = ("trades", "agg_trades", "quotes", "ticker", "candles", "book", "status")
ENVIRONMENTS = ("production", "testnet", "demo", "sandbox")
PREFIX = "ONETAPE_"
RESERVED = ("ONETAPE_RECORDINGS", "ONETAPE_LONG", "ONETAPE_PURE", "ONETAPE_TEST_POSTGRES_URL")
"""Variables that are no settings; nor are those of ``onetape.credentials``."""
TEXTS = ("store", "proxy", "local_address", "postgres")
"""Settings that are text whatever they look like: a folder may be called 2024, a password may have a comma."""
ROUTED = ("websocket",)
"""Settings that are a table or something else."""
PAIR = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}(-PERP)?")

Seconds = Annotated[float, Field(ge=0, le=86_400 * 7, allow_inf_nan=False, strict=True)]
Some = Annotated[float, Field(gt=0, le=86_400 * 7, allow_inf_nan=False, strict=True)]


def _pair(text: str) -> str:
    if not PAIR.fullmatch(text):
        raise ValueError("a pair is written BTC-USDT, a perpetual BTC-USDT-PERP")
    return text


def _many(value: Any) -> Any:
    """One alone is a list of one."""
    return [value] if isinstance(value, str) else value


def _routed(value: Any) -> Any:
    """Addresses without a route are those of all routes."""
    return value if isinstance(value, Mapping) or value is None else {"*": _many(value)}


def _url(*schemes: str) -> AfterValidator:
    def check(text: str) -> str:
        scheme, found, _ = text.partition("://")
        try:
            good = found and scheme in schemes and urlsplit(text).hostname and urlsplit(text).port != 0
        except ValueError:  # of the port, or of brackets
            good = False
        if not good or any(it.isspace() or not it.isprintable() for it in text):
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{it}://' for it in schemes)}")
        return text.rstrip("/")
    return AfterValidator(check)


def _database(text: str) -> str:
    """As libpq takes it: host, user and database may be left to its own variables and files."""
    scheme, _, rest = text.partition("://")
    if scheme not in ("postgresql", "postgres") or not rest or not text.isprintable() or " " in text:
        raise ValueError("must be a URL that begins with postgresql://")
    return text


def _folder(value: Any) -> Any:
    """An empty one would be whatever folder one happens to be in."""
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError("must be the path of a folder")
    return value


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("must be an IP address of this machine") from None


Pair = Annotated[str, AfterValidator(_pair)]
ChannelName = Literal["trades", "agg_trades", "quotes", "ticker", "candles", "book", "status"]
VenueName = Literal["binance", "binance-usdm", "coinbase", "coinbase-exchange", "kraken", "okx", "bybit"]
WebsocketUrl = Annotated[str, _url("ws", "wss")]
RestUrl = Annotated[str, _url("http", "https")]
PostgresUrl = Annotated[str, AfterValidator(_database)]
ProxyUrl = Annotated[str, _url("http", "https", "socks4", "socks5")]
LocalAddress = Annotated[str, AfterValidator(_address)]
Store = Annotated[Path, BeforeValidator(_folder)]
Depth = Annotated[int, Field(ge=1, le=10_000, strict=True)]
Redundancy = Annotated[int, Field(ge=1, le=4, strict=True)]
Pairs = Annotated[tuple[Pair, ...], BeforeValidator(_many), Field(min_length=1)]
Channels = Annotated[tuple[ChannelName, ...], BeforeValidator(_many), Field(min_length=1)]
Intervals = Annotated[tuple[str, ...], BeforeValidator(_many)]
RestUrls = Annotated[tuple[RestUrl, ...], BeforeValidator(_many), Field(min_length=1)]
WebsocketUrls = Annotated[
    dict[str, Annotated[tuple[WebsocketUrl, ...], BeforeValidator(_many), Field(min_length=1)]],
    BeforeValidator(_routed), Field(min_length=1),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Timings(_Part):
    """Seconds; 0 switches one off; what is not given is the venue's own."""

    connect: Some | None = None
    ping_every: Seconds | None = None
    pong_wait: Seconds | None = None
    ack: Seconds | None = None
    first_frame: Seconds | None = None
    silence: Seconds | None = None
    heartbeat: Seconds | None = None
    rotate_after: Seconds | None = None
    refresh: Some | None = None
    audit: Seconds | None = None


class Reconnect(_Part):
    """Waits between attempts, in seconds."""

    base: Some = 1.0
    cap: Some = 30.0
    long_cap: Some = 60.0
    jitter: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.1
    max_attempts: Annotated[int, Field(ge=0, strict=True)] = 0
    """Failures in a row after which only a probe every 5 minutes is made; 0: never give up."""


class Venue(_Part):
    """What differs at one venue; what is not given is as for all."""

    enabled: StrictBool = True
    environment: Literal["production", "testnet", "demo", "sandbox"] | None = None
    pairs: Pairs | None = None
    channels: Channels | None = None
    depth: Depth | None = None
    intervals: Intervals | None = None
    websocket: WebsocketUrls | None = None
    """Instead of the venue's own: one address, several to be tried in turn, or such by route; ``*``: of all routes."""
    rest: RestUrls | None = None
    history: RestUrls | None = None
    """REST that has the trades of the past, where another host has them (coinbase); else, or if only ``rest`` is given,
    that is asked."""
    proxy: ProxyUrl | None = None
    local_address: LocalAddress | None = None
    deflate: StrictBool = False
    redundancy: Redundancy | None = None
    timings: Timings | None = None
    reconnect: Reconnect | None = None


class Log(_Part):
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Candles(_Part):
    intervals: Intervals = ("1s", "1m", "5m", "15m", "1h", "4h", "1d")
    carry_empty: StrictBool = False
    lateness: Seconds = 2.0


class Backfill(_Part):
    """Of trades that are missing."""

    enabled: StrictBool = True
    max_age: Annotated[float, Field(gt=0, le=86_400 * 3_650, allow_inf_nan=False, strict=True)] = 86_400.0 * 7
    """Seconds; what is missing for longer is not asked for by itself."""


class Keep(_Part):
    """What is stored beside trades, candles and gaps."""

    quotes: StrictBool = True
    deltas: StrictBool = False
    snapshot_every: Some = 10.0
    snapshot_depth: Depth = 50


class Storage(_Part):
    """How the journal meets the disk."""

    synchronous: Literal["normal", "full", "off"] = "normal"
    held_rows: Annotated[int, Field(ge=1_000, le=1_000_000_000, strict=True)] = 2_000_000
    """In memory, while the disk takes none."""


SPAN = re.compile(r"[1-9][0-9]{0,5}[smhdw]")
SIZE = re.compile(r"([1-9][0-9]{0,8})(kB|MB|GB|TB)")
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def span_ns(text: str) -> int:
    """``90d`` or ``12h``, or ``0``. Raises ValueError."""
    if text != "0" and not SPAN.fullmatch(text):
        raise ValueError("a time is written 90d, 12h or 30m")
    return 0 if text == "0" else interval_ns(text)


def limit_of(text: str) -> tuple[int | None, int | None]:
    """An age, ns, or a size, bytes: of these two the other is None. Raises ValueError."""
    if size := SIZE.fullmatch(text):
        return None, int(size[1]) * UNITS[size[2]]
    if not SPAN.fullmatch(text):
        raise ValueError("an age is written 90d, a size 50GB")
    if interval_ns(text) < DAY:
        raise ValueError("an age must be at least 1d: a restart goes on from the last days")
    return interval_ns(text), None


def _limits(texts: tuple[str, ...]) -> tuple[str, ...]:
    kinds = ["age" if limit_of(it)[1] is None else "size" for it in texts]
    for it in ("age", "size"):
        if kinds.count(it) > 1:
            raise ValueError(f"one {it} is enough")
    return texts


def _span(value: Any) -> Any:
    """0 is a number, too."""
    return "0" if value == 0 and not isinstance(value, bool) else value


def _known_span(text: str) -> str:
    span_ns(text)
    return text


Span = Annotated[str, BeforeValidator(_span), AfterValidator(_known_span)]
Limits = Annotated[tuple[str, ...], BeforeValidator(_many), AfterValidator(_limits), Field(min_length=1)]


class Upkeep(_Part):
    """What a run does for its store beside collecting."""

    compact_every: Span = "1h"
    """0: never."""
    keep_journal: Span = "1d"
    """What the lake has stays so long in the journal, too."""


class Retention(_Part):
    """By table, how long or up to which size it is kept: an age, a size or both. None: for good."""

    trades: Limits | None = None
    candles: Limits | None = None
    quotes: Limits | None = None
    book_snapshots: Limits | None = None
    book_deltas: Limits | None = None
    feed_status: Limits | None = None
    quarantine: Limits | None = None


class Settings(_Part):
    """All settings, with their defaults."""

    environment: Literal["production", "testnet", "demo", "sandbox"] = "production"
    pairs: Pairs = ("BTC-USDT", "BTC-USD", "ETH-USDT", "ETH-USD", "SOL-USDT", "SOL-USD")
    channels: Channels = ("trades", "book", "quotes")
    depth: Depth = 200
    intervals: Intervals = ("1m",)
    """Of the venues' own candles, where the channel ``candles`` is wanted."""
    store: Store = Path("data")
    postgres: PostgresUrl | None = None
    """Where all that the store keeps is brought as well: postgresql://user@host/database."""
    stop_within: Some = 10.0
    """Seconds from the request to stop until what is left is given up."""
    proxy: ProxyUrl | None = None
    redundancy: Redundancy | None = None
    """Connections for the same subscriptions; None: as the venue needs it, 2 where ids do not prove that no trade was
    lost, else 1."""
    timings: Timings = Timings()
    reconnect: Reconnect = Reconnect()
    log: Log = Log()
    candles: Candles = Candles()
    keep: Keep = Keep()
    storage: Storage = Storage()
    upkeep: Upkeep = Upkeep()
    retention: Retention = Retention()
    backfill: Backfill = Backfill()
    venues: dict[VenueName, Venue] = Field(default_factory=dict)
    """By name; none: the five venues."""

    def chosen(self) -> tuple[str, ...]:
        """Names of the venues that are to run."""
        return tuple(name for name, it in self.venues.items() if it.enabled) if self.venues else FIVE

    def venue(self, name: str) -> Venue:
        """What differs at this venue."""
        return next((it for key, it in self.venues.items() if key == name), Venue())


def load(
    path: Path | None, environment: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None,
) -> Settings:
    """File, then environment, then flags; the later wins. Raises UsageError that names every problem, a line each."""
    problems: list[str] = []
    values = {} if path is None else _read(path)
    where = str(path) if path else "the settings"
    _merge(values, _of_environment(environment, problems), problems)
    _merge(values, dict(flags or {}), problems)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [_explain(it) for it in error.errors()]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError(f"{count} in {where}:\n" + "\n".join(f"  {it}" for it in problems))
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")  # Windows' editors put a mark at the beginning
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    try:
        values = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not {kind}: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold a table of settings, not a {type(values).__name__}")
    return values


def _of_environment(environment: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """``ONETAPE_STORE=/data``, ``ONETAPE_VENUES__BINANCE_USDM__DEPTH=20``; lists with commas."""
    values: dict[str, Any] = {}
    for name, text in sorted(environment.items()):  # a table as a whole before what it holds
        if not name.startswith(PREFIX) or name in RESERVED or name in VARIABLES:
            continue
        path = name.removeprefix(PREFIX).lower().split("__")
        if path[0] not in Settings.model_fields:
            known = [*(PREFIX + it.upper() for it in Settings.model_fields), *VARIABLES]
            problems.append(f"environment: {name} is no setting: {nearest(name, known)}")
            continue
        if path[0] == "venues" and len(path) > 1:
            path[1] = path[1].replace("_", "-")
        if not _put(values, path, text if path[-1] in TEXTS else _value(text)):
            problems.append(f"environment: {name} names a part of {'.'.join(path[:-1])}, which is no table")
    return values


def _put(table: dict[str, Any], path: Sequence[str], value: Any) -> bool:
    """False: something on the way there is no table."""
    for key in path[:-1]:
        below: Any = table.setdefault(key, {})
        if not isinstance(below, dict):
            return False
        table = below
    table[path[-1]] = value
    return True


def _value(text: str) -> Any:
    """As JSON where it is such; else a list where there are commas; else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return [it.strip() for it in text.split(",")] if "," in text else text


def _merge(into: dict[str, Any], values: Mapping[str, Any], problems: list[str], path: str = "") -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value, problems, f"{path}{key}.")
            continue
        # what takes the place of something wrong must not hide it
        if isinstance(value, Mapping) and into.get(key) is not None and key not in ROUTED:
            problems.append(f"{path}{key}: must be a table")
        into[key] = dict(value) if isinstance(value, Mapping) else value


SAID = {
    "tuple_type": "must be a list", "dict_type": "must be a table", "model_type": "must be a table",
    "path_type": "must be a path, as text", "string_type": "must be text", "int_type": "must be a whole number",
    "int_parsing": "must be a whole number", "int_from_float": "must be a whole number",
    "too_short": "must not be empty", "finite_number": "must be a number",
    "float_type": "must be a number", "float_parsing": "must be a number",
    "bool_type": "must be true or false", "bool_parsing": "must be true or false",
}
"""What is wrong, in the words of a settings file, by pydantic's type of the error."""
BOUNDS = {
    "greater_than": ("above", "gt"), "greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le"),
}


# --- problems in words ----------------------------------------------------------------------------------------------


def _explain(error: Mapping[str, Any]) -> str:
    """One line: path, what is wrong, what is allowed."""
    location = [it for it in error["loc"] if it != "[key]"]
    path = ".".join(str(it) for it in location)
    match error["type"]:
        case "extra_forbidden":
            return f"{path}: there is no such setting: {nearest(str(location[-1]), _known(location[:-1]))}"
        case "literal_error" if error["loc"][-1] == "[key]":
            return f"{path}: there is no such venue: {nearest(str(location[-1]), VENUES)}"
        case "literal_error":
            return f"{path}: not {str(error['input'])[:40]!r}, but one of {error['ctx']['expected']}"
        case kind if kind in BOUNDS:
            words, bound = BOUNDS[kind]
            return f"{path}: must be {words} {error['ctx'][bound]:g}"
        case _:
            message = error["msg"].removeprefix("Value error, ")
            return f"{path}: {SAID.get(error['type'], message[0].lower() + message[1:])}"


def _known(location: Iterable[Any]) -> list[str]:
    """Names of the settings at a path."""
    model: Any = Settings
    for key in location:
        if isinstance(key, str) and key in getattr(model, "model_fields", {}):
            model = _model_of(model.model_fields[key].annotation)
        # the name of a venue, or a number in a list: what is below is the same
    return list(getattr(model, "model_fields", {}))


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for it in get_args(annotation) if (found := _model_of(it)) is not None), None)
