"""Spoils pages of trades that REST answers, where the plan says so."""
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from msgspec import Raw, structs

from onetape.clock import SECOND
from onetape.sim.base import Listing, Response
from onetape.sim.faults import Faults
from onetape.sim.kinds import OF_HISTORY, Fault, FaultKind
from onetape.sim.pages import Page, Target, target_of

OVERLAP = 20
"""Rows of the page before, at most."""
HOLE = 3
"""Rows that are left out of a page, at most."""
LEFT_OUT = 10_000
"""Ids that are known to have been left out once; then the first are forgotten, and may be left out again."""
MISSING_EVERY = 25
"""Ids, of which one is missing for good."""
HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"

Ask = Callable[[str], Response]
"""The venue itself, unspoiled, by path and query."""


class Histories:
    """Each fault of history that lies on a page strikes it, in the order of ``OF_HISTORY``."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._left_out: dict[tuple[str, str], None] = {}

    def spoiled(
        self, venue: str, target: str, said: Response, now: int, ask: Ask, listings: Iterable[Listing],
    ) -> Response:
        """What becomes of an answer. ``ask``: for pages that were not asked for; ``listings``: of the venue."""
        wanted = target_of(venue, target) if said.status == 200 else None
        struck = [] if wanted is None else self._struck(venue, now)
        if wanted is None or not struck:
            return said
        try:
            page = Page(wanted.history, said.body)
        except ValueError:  # an error in status 200
            return said
        for it in struck:
            self._spoil(it, page, wanted, _Elsewhere(wanted, ask, listings), now - self._late_by(it, venue, now))
        return self._sent(said, page, struck)

    def _struck(self, venue: str, now: int) -> list[Fault]:
        found = (self._faults.active(kind, venue, now) for kind in OF_HISTORY)
        return [
            it for it in found if it is not None and (it.kind is FaultKind.HISTORY_HOLES or self._faults.hits(it))
        ]

    def _late_by(self, it: Fault, venue: str, now: int) -> int:
        """By the venue's clock."""
        skew = self._faults.active(FaultKind.CLOCK_SKEW, venue, now)
        return round((it.seconds - (skew.seconds if skew else 0)) * SECOND)

    def _spoil(self, it: Fault, page: Page, wanted: Target, elsewhere: "_Elsewhere", until: int) -> None:
        dice, rows = self._faults.dice, page.rows
        match it.kind:
            case FaultKind.HISTORY_LATE:
                page.rows = [row for row in rows if page.time(row) <= until]
            case FaultKind.HISTORY_FOREIGN:
                page.rows = elsewhere.of_another() or rows
            case FaultKind.HISTORY_BACKWARDS:
                page.rows = elsewhere.older(page)
            case FaultKind.HISTORY_DOUBLED:
                before = elsewhere.before(page) if dice.random() < 0.5 else []
                page.rows = (before + rows)[:wanted.limit] if before else [row for row in rows for _ in range(2)]
            case FaultKind.HISTORY_HOLES:
                page.rows = self._with_holes(it, page, wanted.symbol)
            case FaultKind.HISTORY_CUT if not it.code and len(rows) > 1:
                page.rows = rows[:dice.randrange(1, len(rows))]
            case FaultKind.HISTORY_EMPTY:
                page.rows = []
            case FaultKind.HISTORY_SHUFFLED if len(rows) > 1:
                page.rows = dice.sample(rows, len(rows))
                if page.rows == rows:
                    page.rows.reverse()
            case _:  # of the body as a whole
                pass

    def _with_holes(self, it: Fault, page: Page, symbol: str) -> list[Raw]:
        if it.code:
            return [row for row in page.rows if not self._is_missing(page.id(row))]
        keys = [(symbol, id) for id in page.ids()]
        fresh = [key for key in keys[1:-1] if key not in self._left_out]
        gone = set(self._faults.dice.sample(fresh, min(len(fresh), HOLE)))
        self._left_out |= dict.fromkeys(sorted(gone))
        while len(self._left_out) > LEFT_OUT:
            del self._left_out[next(iter(self._left_out))]
        return [row for key, row in zip(keys, page.rows, strict=True) if key not in gone]

    def _is_missing(self, id: str) -> bool:
        return crc32(f"{self._faults.seed} {id}".encode()) % MISSING_EVERY == 0

    def _sent(self, said: Response, page: Page, struck: Sequence[Fault]) -> Response:
        kinds = {it.kind: it for it in struck}
        if FaultKind.HISTORY_HTML in kinds:
            return Response(200, HTML, {"Content-Type": "text/html; charset=UTF-8"}, said.after_ns)
        body = page.body()
        cut = kinds.get(FaultKind.HISTORY_CUT)
        if cut is not None and cut.code:
            body = body[:self._faults.dice.randrange(1, len(body))]
        return structs.replace(said, body=body)


class _Elsewhere:
    """What the venue says to requests that are near the one that was made. Nothing, where it refuses."""

    def __init__(self, wanted: Target, ask: Ask, listings: Iterable[Listing]) -> None:
        self._wanted, self._ask, self._listings = wanted, ask, listings

    def of_another(self) -> list[Raw]:
        """The newest rows of another symbol: of Bitcoin for Ether, of Ether for all else, of the same quote."""
        asked = self._wanted.symbol
        base = "BTC" if "ETH" in asked else "ETH"
        symbols = [it.symbol.rpartition(":")[2] for it in self._listings if it.base == base]
        others = [it for it in symbols if it != asked]
        if not others:
            return []
        return self._rows(self._wanted.about(max(others, key=lambda it: _shared_end(it, asked))))

    def older(self, page: Page) -> list[Raw]:
        """Than all that are on the page; where one cannot ask for them, the older half of it."""
        target = self._wanted.moved(-max(self._wanted.limit, OVERLAP))
        if target is not None and page.rows:
            oldest = min(map(int, page.ids()))
            return [it for it in self._rows(target) if int(page.id(it)) < oldest]
        half = len(page.rows) // 2
        return page.rows[-half:] if half and self._wanted.history.newest_first else page.rows[:half]

    def before(self, page: Page) -> list[Raw]:
        """The last rows of the page before it, as one goes on."""
        step = OVERLAP if self._wanted.history.newest_first else -OVERLAP
        target = self._wanted.moved(step)
        if target is None or not page.rows:
            return []
        known = set(page.ids())
        return [it for it in self._rows(target) if page.id(it) not in known][-OVERLAP:]

    def _rows(self, target: str) -> list[Raw]:
        said = self._ask(target)
        try:
            return Page(self._wanted.history, said.body).rows if said.status == 200 else []
        except ValueError:
            return []


def _shared_end(one: str, other: str) -> int:
    """Letters."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
