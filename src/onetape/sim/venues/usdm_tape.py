"""The executions of the simulated USD-M: which belong together, and what stands between them (sections 6.1, 6.2)."""
from onetape.clock import MILLISECOND
from onetape.sim.base import Match

BATCH = 100 * MILLISECOND
"""What is executed in it at one price for one side is one aggregate."""
EVERY = 40
"""Matches, between two prints that are off the book; those share the series of trade ids."""
NOT_APPLICABLE = "NA"
OFF_BOOK = ("INSURANCE_FUND", "ADL", NOT_APPLICABLE)
_RETAIL_EVERY = 9  # matches, of which one is a retail price improvement


def trade_id(match: int) -> int:
    """Of a match, by its number in the truth."""
    return match + match // EVERY


def match_from(trade_id: int) -> int:
    """The first whose trade has this id or a higher one."""
    return trade_id - trade_id // (EVERY + 1)


def is_followed(match: int) -> bool:
    """By a print that is off the book, with the next id."""
    return match % EVERY == EVERY - 1


def reason(match: int) -> str:
    """Why what follows this match is off the book."""
    return OFF_BOOK[match // EVERY % len(OFF_BOOK)]


def is_retail(match: int) -> bool:
    """Retail price improvement: it counts in ``q``, and not in ``nq``."""
    return match % _RETAIL_EVERY == 4


class Batches:
    """They end at the beats of the venue's clock, the beat included."""

    def __init__(self, phase: int) -> None:
        self._phase = phase

    def together(self, it: Match, before: Match) -> bool:
        """Whether they are one aggregate. What is off the book parts them: its id is not within."""
        return (
            it.price == before.price and it.buy == before.buy and self._end(it.time) == self._end(before.time)
            and not is_followed(before.id)
        )

    def _end(self, time: int) -> int:
        return time + (self._phase - time) % BATCH

    def closed(self, now: int) -> int:
        """Up to when nothing can be added any more."""
        return now - (now - self._phase) % BATCH
