"""What REST requests ask of the simulated Binance, and how it refuses those that make no sense (sections 7 and 9)."""
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import unquote_plus

import msgspec
from msgspec import Struct, json

from onetape.clock import MICROSECOND, MILLISECOND
from onetape.sim.venues.binance_intervals import Interval

NEVER = 1 << 62


class BadRequest(Exception):
    """One of the venue's codes, said after a while."""

    def __init__(self, code: int, text: str, status: int = 400, after_ns: int = 0) -> None:
        super().__init__(text)
        self.code, self.status, self.after_ns = code, status, after_ns


class Ask(Struct):
    """A request as its endpoint sees it."""

    query: Mapping[str, str]
    now: int
    skew: int
    unit: int
    """Of times in the answer, in ns."""
    headers: Mapping[str, str]
    """By their names in lower case."""

    def number(self, name: str) -> int | None:
        """None if it was not sent. Raises BadRequest."""
        text = self.query.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,20}", text):
            legal = "legal range is '^[0-9]{1,20}$'"
            raise BadRequest(-1100, f"Illegal characters found in parameter '{name}'; {legal}.")
        return int(text)

    def limit(self, default: int, most: int) -> int:
        limit = self.number("limit")
        if limit == 0:
            raise BadRequest(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(default if limit is None else limit, most)

    def time(self, name: str) -> int | None:
        """Sent in ms by the venue's clock, given in ns by the true one."""
        sent = self.number(name)
        return None if sent is None else min(sent * MILLISECOND, NEVER) - self.skew

    def shown(self, time: int) -> int:
        """A true time as the venue writes it."""
        return (time + self.skew) // self.unit


class Endpoint(Struct, frozen=True):
    """What a path leads to."""

    weight: Callable[[Mapping[str, str]], int]
    """Of a request, from its parameters."""
    parameters: frozenset[str]
    answer: Callable[[Ask], bytes]
    """Raises BadRequest."""


Endpoints = Iterable[tuple[str, Callable[[Mapping[str, str]], int], Iterable[str], Callable[[Ask], bytes]]]
"""Path, and what an Endpoint consists of."""


def endpoints(base: str, table: Endpoints) -> Mapping[str, Endpoint]:
    """By path."""
    return {
        f"{base}/{path}": Endpoint(weight, frozenset(parameters), answer)
        for path, weight, parameters, answer in table
    }


def flat(weight: int) -> Callable[[Mapping[str, str]], int]:
    """Whatever the parameters are."""
    return lambda _: weight


def split(target: str) -> tuple[str, dict[str, str]]:
    """Path and parameters; of several of one name the last."""
    path, _, query = target.partition("?")
    pairs = (it.partition("=") for it in query.split("&") if it)
    return path, {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


def check(query: Mapping[str, str], target: str, known: frozenset[str]) -> None:
    """Raises BadRequest."""
    sent = sum(1 for it in target.partition("?")[2].split("&") if it)
    if sent > len(query):
        raise BadRequest(-1101, "Duplicate values for a parameter detected.")
    read = len(known & set(query))
    if read < sent:
        raise BadRequest(-1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.")


def wanted_unit(headers: Mapping[str, str]) -> int:
    return MICROSECOND if headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND" else MILLISECOND


def names(text: str) -> list[str]:
    """``["BTCUSDT","ETHUSDT"]``"""
    try:
        return json.decode(text.encode(errors="replace"), type=list[str])
    except msgspec.DecodeError:
        raise BadRequest(-1100, "Illegal characters found in a parameter.") from None


def wanted_interval(ask: Ask, intervals: Mapping[str, Interval]) -> Interval:
    if not ask.query.get("interval"):
        raise BadRequest(-1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed.")
    if ask.query["interval"] not in intervals:
        raise BadRequest(-1120, "Invalid interval.")
    if ask.query.get("timeZone", "0") not in ("0", "+0", "+00:00"):  # left out: other days than those of UTC
        raise BadRequest(-1130, "Data sent for parameter 'timeZone' is not valid.")
    return intervals[ask.query["interval"]]


def mini(ask: Ask) -> bool:
    """Whether the short form is wanted. Raises BadRequest."""
    kind = ask.query.get("type", "FULL")
    if kind not in ("FULL", "MINI"):
        raise BadRequest(-1130, "Data sent for parameter 'type' is not valid.")
    return kind == "MINI"


def starts(ask: Ask, interval: Interval, known: int | None, limit: int) -> Sequence[int]:
    """Of the candles that are wanted (section 7): the newest, or from a beginning on. The running one counts.

    The beginnings themselves are round times, which a wrong clock does not move.
    """
    start, end = ask.number("startTime"), ask.number("endTime")
    if known is None:
        return ()
    last = interval.floor(min(ask.now, NEVER if end is None else end * MILLISECOND))
    if start is None:
        return interval.starts(known, last)[-limit:]
    begin = min(start * MILLISECOND, NEVER)
    if begin > last:
        return ()
    first = interval.floor(begin)
    return interval.starts(max(known, first if first == begin else interval.after(first)), last)[:limit]
