"""Faults by chance: the mixture of everything, and outages with what makes it hard to have their trades afterwards."""
from math import floor
from random import Random

from onetape.sim.kinds import OF_HISTORY, WITH_SYMBOL, Fault, FaultKind


def any_fault(dice: Random, venue: str, duration: float) -> Fault:
    """A fault that a client has to survive: it begins in the first four fifths, so that there is time to recover."""
    kind = dice.choice(_BY_CHANCE)
    at = round(dice.uniform(0, 0.8 * duration), 3)
    lasts = round(dice.uniform(0.5, max(min(20.0, 0.15 * duration), 0.5)), 3)
    share, code, seconds = 1.0, 0, 0.0
    match kind:
        case FaultKind.DROP | FaultKind.DOUBLE | FaultKind.REORDER | FaultKind.SKIP_SEQUENCE:
            share = dice.choice((0.01, 0.1, 0.5))
        case FaultKind.CORRUPT | FaultKind.GARBAGE | FaultKind.CHECKSUM:
            share = dice.choice((0.01, 0.05))
        case FaultKind.DELAY | FaultKind.SLOW_REST | FaultKind.STALE_SNAPSHOT:
            seconds = round(dice.uniform(0.2, 5), 3)
        case FaultKind.REST_STATUS:
            code, seconds = dice.choice(((429, 2.0), (500, 0.0), (502, 0.0), (503, 1.0)))
        case FaultKind.REFUSE_CONNECT:
            code = dice.choice((429, 502, 503))
        case FaultKind.CLOSE:
            code = dice.choice((1000, 1001, 1006, 1008, 1011, 1012))
        case FaultKind.CLOCK_SKEW:
            seconds = round(dice.uniform(-5, 5), 3)
        case FaultKind.GIANT:
            code = 1 << 20
        case FaultKind.BAD_CERTIFICATE:
            code = dice.choice((0, 1))
        case _:
            pass
    return Fault(kind=kind, venue=venue, at=at, lasts=lasts, share=share, code=code, seconds=seconds)


_BY_CHANCE = tuple(  # what is refused may stay so for long; what came later has its own mixture: old seeds stay
    it for it in FaultKind if it not in (*WITH_SYMBOL, *OF_HISTORY, FaultKind.VENUE_SKIPS)
)


# --- outages ----------------------------------------------------------------------------------------------------------

ROOM = 0.7
"""Of the duration: what is left is for getting well."""
LONGEST = 120.0
_AFTERWARDS = (2.0, 30.0)  # seconds after an outage in which REST is in trouble
_BREAKS = (0, 1001, 1006, 1012)


def outages(seed: int, venue: str, duration: float) -> list[Fault]:
    """One or two outages of a venue, each followed by trouble with REST, and frames that are lost and doubled between.

    What cannot be told from a true hole of the venue (``history_holes`` with ``code`` 1, ``venue_skips``) is left out.
    """
    dice = Random(f"outages {seed} {venue}")  # noqa: S311 - chance, no secret
    room, count = ROOM * duration, dice.choice((1, 2))
    slot = room / count
    out: list[Fault] = []
    for number in range(count):
        at = slot * (number + dice.uniform(0.1, 0.3))
        lasts = min(dice.choice((dice.uniform(1, 10), dice.uniform(10, LONGEST))), 0.5 * slot)
        out += _outage(dice, venue, at, lasts)
        out += _afterwards(dice, venue, at + lasts, slot * (number + 1))
    out += [_frames(dice, venue, kind, room) for kind in (FaultKind.DROP, FaultKind.DOUBLE)]
    return out


def _outage(dice: Random, venue: str, at: float, lasts: float) -> list[Fault]:
    """Connections end without a word or with one, or are dead unnoticed; no new one is made as long as it lasts."""
    kept_out = dice.choice((FaultKind.REFUSE_CONNECT, FaultKind.DNS))
    code = dice.choice((502, 503)) if kept_out is FaultKind.REFUSE_CONNECT else 0
    half_open = dice.random() < 0.25
    return [
        _fault(FaultKind.HALF_OPEN if half_open else FaultKind.CLOSE, venue, at,
               code=0 if half_open else dice.choice(_BREAKS)),
        _fault(kept_out, venue, at, lasts, code=code),
    ]


def _afterwards(dice: Random, venue: str, at: float, until: float) -> list[Fault]:
    """A refusal, perhaps slowness, and one or two sorts of bad pages, from the end of an outage on."""
    def lasting() -> float:
        return min(dice.uniform(*_AFTERWARDS), until - at)

    out = [_fault(FaultKind.REST_STATUS, venue, at, lasting() / 2, share=dice.choice((0.3, 1.0)), **_status(dice))]
    if dice.random() < 0.5:
        out.append(_fault(FaultKind.SLOW_REST, venue, at, lasting(), share=0.5, seconds=dice.uniform(0.5, 8)))
    for kind in dice.sample(OF_HISTORY, dice.choice((1, 2))):
        code = dice.choice((0, 1)) if kind is FaultKind.HISTORY_CUT else 0
        seconds = dice.uniform(1, 10) if kind is FaultKind.HISTORY_LATE else 0.0
        share = dice.choice((0.3, 0.6, 1.0))
        out.append(_fault(kind, venue, at, lasting(), share=share, code=code, seconds=seconds))
    return out


def _status(dice: Random) -> dict[str, float]:
    return dice.choice(({"code": 429, "seconds": dice.uniform(1, 10)}, {"code": 503, "seconds": 0.0}))


def _frames(dice: Random, venue: str, kind: FaultKind, room: float) -> Fault:
    at = dice.uniform(0.1, 0.8) * room
    lasts = min(dice.uniform(1, 20), room - at)
    return _fault(kind, venue, at, lasts, share=dice.choice((0.02, 0.2)))


def _fault(
    kind: FaultKind, venue: str, at: float, lasts: float = 0.0, *, share: float = 1.0, code: float = 0,
    seconds: float = 0.0,
) -> Fault:
    """To the ms, never longer; Retry-After counts whole seconds."""
    whole = round(seconds) if kind is FaultKind.REST_STATUS else round(seconds, 3)
    return Fault(
        kind=kind, venue=venue, at=floor(at * 1_000) / 1_000, lasts=floor(lasts * 1_000) / 1_000, share=share,
        code=int(code), seconds=whole,
    )
