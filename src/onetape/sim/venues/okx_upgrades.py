"""When the simulated OKX upgrades its sockets, and what it says of that (sections 2 and 5.8)."""
from collections.abc import Mapping, Sequence

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.faults import Fault, FaultKind, Faults
from onetape.sim.venues.okx_books import VENUE

NOTICE_BEFORE, LASTS = 10 * SECOND, 5 * SECOND
"""The page says 60 s; a plan of faults says of every venue that it closes 10 s after its notice."""


class Upgrades:
    """One for each notice in the plan. Connections that begin after it outlive it: there is no outage."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.notices: Sequence[Fault] = [it for it in faults.of(FaultKind.NOTICE) if it.venue in ("", VENUE)]

    def row(self, fault: Fault, now: int, skew: int) -> dict[str, object]:
        begin = self._faults.time(fault.at) + NOTICE_BEFORE
        end = begin + LASTS
        return {
            "title": "Service upgrade (WebSocket)", "begin": str((begin + skew) // MILLISECOND),
            "end": str((end + skew) // MILLISECOND), "preOpenBegin": "", "href": "", "serviceType": "0",
            "state": "scheduled" if now < begin else "ongoing" if now < end else "completed", "system": "unified",
            "scheDesc": "", "maintType": "1", "env": "1", "ts": str((now + skew) // MILLISECOND),
        }

    def planned(self, now: int, skew: int) -> list[Mapping[str, object]]:
        """What has been announced and is not over."""
        begun = [(it, self._faults.time(it.at)) for it in self.notices]
        return [self.row(it, now, skew) for it, at in begun if at <= now < at + NOTICE_BEFORE + LASTS]
