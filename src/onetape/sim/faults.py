"""What is to go wrong, when and how often: plans of faults, and the dice that are thrown while they run."""
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

import msgspec
from msgspec import Struct

from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.sim import mixtures
from onetape.sim.kinds import OF_HISTORY, WITH_SYMBOL, Fault, FaultKind
from onetape.sim.listings import LISTINGS, SHOWS

__all__ = ["Fault", "FaultKind", "FaultPlan", "Faults", "moments"]


class FaultPlan(Struct, frozen=True, kw_only=True):
    """The faults of one run. ``seed`` throws the dice of those that hit a share."""

    faults: tuple[Fault, ...] = ()
    seed: int = 1

    @classmethod
    def load(cls, path: Path) -> Self:
        """A TOML file of ``[[fault]]`` tables with the fields of Fault, and perhaps ``seed = 7`` before them.

        Raises UsageError: all that is wrong in it, as one line.
        """
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"the fault plan {path} cannot be read: {error}") from error
        faults, problems = _read(document)
        if problems:
            raise UsageError(f"the fault plan {path} is wrong: {'; '.join(problems)}")
        return cls(faults=tuple(faults), seed=document.get("seed", 1))

    @classmethod
    def random(cls, seed: int, venues: Iterable[str], duration: float) -> Self:
        """A mixture over ``duration`` seconds, one fault in ten; the same for the same seed. It refuses no symbol."""
        dice = Random(seed)  # noqa: S311 - chance, no secret
        names = sorted(venues)
        count = max(int(duration / 10), 1) if names else 0
        faults = (mixtures.any_fault(dice, dice.choice(names), duration) for _ in range(count))
        return cls(faults=tuple(sorted(faults, key=lambda it: it.at)), seed=seed)

    @classmethod
    def outages(cls, seed: int, venues: Iterable[str], duration: float) -> Self:
        """Each venue out of reach for 1 to 120 s, once or twice, and trouble with REST when the trades of that time are
        to be had; all over by 70 % of ``duration`` seconds, the same for the same seed whoever else is in it."""
        faults = [it for name in sorted(venues) for it in mixtures.outages(seed, name, duration)]
        return cls(faults=tuple(sorted(faults, key=lambda it: it.at)), seed=seed)

    def ends(self) -> float:
        """When the last one is over, seconds after the start."""
        return max((it.ends() for it in self.faults), default=0.0)


class Faults:
    """A plan while it runs: which faults are active, and whom they hit."""

    def __init__(self, plan: FaultPlan, start: int) -> None:
        self.start, self.seed = start, plan.seed
        self._dice = Random(plan.seed)  # noqa: S311 - chance, no secret
        self._by_kind: dict[FaultKind, list[Fault]] = {}
        for it in plan.faults:
            self._by_kind.setdefault(it.kind, []).append(it)

    def active(self, kind: FaultKind, venue: str, now: int, symbol: str = "", channel: str = "") -> Fault | None:
        """The first fault of this kind that lies on all of these at this time."""
        for it in self._by_kind.get(kind, ()):
            if (
                it.venue in ("", venue) and it.symbol in ("", symbol) and it.channel in ("", channel)
                and self.time(it.at) <= now < self.time(max(it.ends(), it.at + 1e-3))
            ):
                return it
        return None

    def listed(self, venue: str, symbol: str, now: int) -> bool:
        """Whether there is such an instrument at this time."""
        return self.active(FaultKind.UNLISTED, venue, now, symbol) is None

    def hits(self, fault: Fault) -> bool:
        """The next of those that it concerns; call once for each."""
        return fault.share >= 1.0 or self._dice.random() < fault.share

    def of(self, kind: FaultKind) -> Sequence[Fault]:
        return self._by_kind.get(kind, ())

    def time(self, seconds: float) -> int:
        """Seconds after the start to ns since the epoch."""
        return self.start + round(seconds * SECOND)

    def edges(self) -> list[int]:
        """All times at which a fault begins, begins anew or ends, ascending."""
        times = {self.time(moment) for faults in self._by_kind.values() for it in faults for moment in moments(it)}
        ends = {self.time(max(it.ends(), it.at + 1e-3)) for faults in self._by_kind.values() for it in faults}
        return sorted(times | ends)

    @property
    def dice(self) -> Random:
        return self._dice


REPEATED = frozenset({FaultKind.CLOSE, FaultKind.GIANT})  # ``seconds`` is their period
MAX_REPEATS = 1_000


def moments(it: Fault) -> list[float]:
    """When it strikes: at its beginning, and those that repeat every ``seconds`` after that."""
    if it.kind not in REPEATED or it.seconds <= 0 or it.lasts <= 0:
        return [it.at]
    return [it.at + n * it.seconds for n in range(min(int(it.lasts / it.seconds) + 1, MAX_REPEATS))]


# --- plans from files -----------------------------------------------------------------------------------------------


def _read(document: dict[str, Any]) -> tuple[list[Fault], list[str]]:
    """The faults that can be read, and a line for each that cannot."""
    problems = [f"{key!r} is not known" for key in document if key not in ("fault", "seed")]
    if type(document.get("seed", 1)) is not int:
        problems.append("seed is no whole number")
    tables = document.get("fault", [])
    if not isinstance(tables, list):
        return [], [*problems, "faults are written as [[fault]]"]
    faults = []
    for number, table in enumerate(tables, 1):
        try:
            faults.append(msgspec.convert(table, Fault))
        except msgspec.ValidationError as error:
            problems.append(f"fault {number}: {error}")
            continue
        problems += [f"fault {number}: {problem}" for problem in _problems(faults[-1])]
    return faults, problems


def _problems(it: Fault) -> list[str]:
    checks = {
        "at is negative": it.at < 0,
        "lasts is negative": it.lasts < 0,
        "share is not between 0 and 1": not 0 <= it.share <= 1,
        "code is negative": it.code < 0,
        f"code is above {MAX_BYTES} bytes": it.kind in _WITH_BYTES and it.code > MAX_BYTES,
        "seconds is negative": it.seconds < 0 and it.kind is not FaultKind.CLOCK_SKEW,
        "a number is not finite": not all(map(_finite, (it.at, it.lasts, it.share, it.seconds))),
        "a close code is 0 or between 1000 and 4999": it.kind is FaultKind.CLOSE and not _close_code(it.code),
        "a status is 0 or between 400 and 599": it.kind in _WITH_STATUS and it.code != 0 and not 400 <= it.code <= 599,
        f"no simulated venue is called {it.venue!r}": it.venue not in ("", *LISTINGS, *SHOWS),
        f"no channel is called {it.channel!r}": it.channel not in ("", *_CHANNELS),
        "of a bad certificate the code is 0 or 1": it.kind is FaultKind.BAD_CERTIFICATE and it.code not in (0, 1),
        f"of {it.kind} the code is 0 or 1": it.kind in _OF_TWO_SORTS and it.code not in (0, 1),
        f"more than {MAX_SKIPPED} numbers at once": it.kind is FaultKind.VENUE_SKIPS and it.code > MAX_SKIPPED,
        f"{it.kind} knows no symbol and no channel": it.kind in OF_HISTORY and (it.symbol, it.channel) != ("", ""),
        f"{it.kind} must last": it.kind not in _OF_A_MOMENT and it.lasts == 0,
        f"{it.kind} needs seconds": it.kind in _WITH_SECONDS and it.seconds == 0,
        f"{it.kind} needs a symbol": it.kind in WITH_SYMBOL and not it.symbol,
    }
    return [problem for problem, is_so in checks.items() if is_so]


_CHANNELS = ("trades", "book", "quotes", "ticker", "candles")
MAX_BYTES = 1 << 28
MAX_SKIPPED = 1_000
_OF_TWO_SORTS = (FaultKind.HISTORY_CUT, FaultKind.HISTORY_HOLES)
_WITH_BYTES = (FaultKind.GIANT, FaultKind.BAD_LIST)
_OF_A_MOMENT = (FaultKind.CLOSE, FaultKind.NOTICE, FaultKind.HALF_OPEN, FaultKind.GIANT)
_WITH_SECONDS = (FaultKind.DELAY, FaultKind.SLOW_REST, FaultKind.CLOCK_SKEW, FaultKind.HISTORY_LATE)
_WITH_STATUS = (FaultKind.REST_STATUS, FaultKind.REFUSE_CONNECT)


def _close_code(code: int) -> bool:
    return code == 0 or 1000 <= code <= 4999


def _finite(number: float) -> bool:
    return number - number == 0
