"""Compares our candles with the venue's own, and says of each difference what is known about why."""
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from onetape.model import Candle

PRICES = ("open", "high", "low", "close", "volume")


class Verdict(StrEnum):
    """What came of one interval."""

    AGREES = "agrees"
    DIFFERS = "differs"
    """Both have it, ours is complete, both are final: one of them is wrong."""
    UNDECIDED = "undecided"
    """There is a difference, and a reason for it."""


class Compared(Struct, frozen=True):
    """One interval; one side may have no candle of it."""

    end: int
    verdict: Verdict
    fields: tuple[str, ...]
    """In which they differ; empty where one has none."""
    ours: Candle | None
    theirs: Candle | None
    why: str
    """What is known about the reason; empty: nothing, and there should be no difference."""


def compare(
    ours: Iterable[Candle], theirs: Iterable[Candle], *, counts: bool,
    missing: Callable[[int, int], str] = lambda *_: "", lacking: Callable[[int, int], str] = lambda *_: "",
) -> Iterator[Compared]:
    """Of one instrument and interval, by ``end``, ascending.

    ``counts``: numbers of trades mean the same on both sides. ``missing``: why our tape is not complete in [start,
    end), or an empty text; ``lacking``: why the venue's candle of it was not had.
    """
    left, right = ({it.end: it for it in side} for side in (ours, theirs))
    for end in sorted({*left, *right}):
        yield _compare(left.get(end), right.get(end), counts, missing, lacking)


def _compare(
    ours: Candle | None, theirs: Candle | None, counts: bool, missing: Callable[[int, int], str],
    lacking: Callable[[int, int], str],
) -> Compared:
    fields: tuple[str, ...] = ()
    why = ""
    if ours is not None and theirs is not None:
        fields = tuple(_different(ours, theirs, counts))
        different = bool(fields)
        why = _why(ours, theirs, missing) if fields else ""
        end = ours.end
    else:
        one = ours or theirs
        assert one is not None
        different = bool(one.volume)  # nobody traded: some say so by a candle, some by none
        why = _of_one(one, missing, lacking) if different else ""
        end = one.end
    verdict = Verdict.UNDECIDED if why else Verdict.DIFFERS if different else Verdict.AGREES
    return Compared(end, verdict, fields, ours, theirs, why)


def _different(ours: Candle, theirs: Candle, counts: bool) -> Iterator[str]:
    if not ours.volume and not theirs.volume:  # the prices of nothing are a matter of taste
        return
    yield from (name for name in PRICES if getattr(ours, name) != getattr(theirs, name))
    if counts and theirs.trades is not None and ours.trades != theirs.trades:
        yield "trades"


def _why(ours: Candle, theirs: Candle, missing: Callable[[int, int], str]) -> str:
    if not theirs.final:
        return "the venue's candle is still open"
    if not ours.final:
        return "ours is provisional"
    if ours.complete:
        return ""
    return missing(ours.start, ours.end) or "ours is incomplete"


def _of_one(one: Candle, missing: Callable[[int, int], str], lacking: Callable[[int, int], str]) -> str:
    """One side has none, though the other says that there was trade."""
    if one.source == "venue":
        return "the venue's candle is still open" if not one.final else missing(one.start, one.end)
    if not one.final:
        return "ours is provisional"
    why = lacking(one.start, one.end)
    if why or one.complete:
        return why
    return missing(one.start, one.end) or "ours is incomplete"
