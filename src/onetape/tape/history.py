"""What is known of a tape from before this process: the answer of a store to a pipeline that goes on with it."""
from collections.abc import Sequence

from msgspec import Struct

from onetape.model import Trade
from onetape.tape.ledger import LedgerState


class History(Struct, frozen=True, kw_only=True):
    """Of one channel of trades of one instrument; the default: nothing is known."""

    ledger: LedgerState = LedgerState()
    covered_since: int | None = None
    """Exchange time, ns, from which the tape is known; None: from the first trade that comes."""
    final_until: int | None = None
    """Candles that end by then, ns, are stored."""
    gaps: Sequence[tuple[int, int]] = ()
    """Exchange times, ns, of the trades on both sides of each gap that is not healed."""
    last: Trade | None = None
    """The last one, by exchange time."""
    trades: Sequence[Trade] = ()
    """Of the candles that are not final yet, and perhaps of some that are."""
    feeds_candles: bool = True
    """False where the other channel of the instrument does."""
