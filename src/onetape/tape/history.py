"""What is known of a tape from before this process: the answer of a store to a pipeline that goes on with it."""
from collections.abc import Mapping, Sequence

from msgspec import Struct

from onetape.model import Candle, Trade
from onetape.tape.ledger import LedgerState


class History(Struct, frozen=True, kw_only=True):
    """Of one channel of trades of one instrument; the default: nothing is known."""

    ledger: LedgerState = LedgerState()
    covered_since: int | None = None
    """Exchange time, ns, from which the tape is known; None: from the first trade that comes."""
    final_until: int | None = None
    """Candles that end by then, ns, are stored."""
    gaps: Mapping[tuple[str, str], tuple[int, int]] = {}
    """By the ids of the trades on both sides, their exchange times, ns: of each gap that is not healed."""
    last: Trade | None = None
    """The last one, by exchange time."""
    candles: Sequence[Candle] = ()
    """Final ones of a minute, whose trades also belong to longer ones that are not final yet."""
    trades: Sequence[Trade] = ()
    """Those behind these candles."""
    known_at: int = 0
    """When the last of all this became available, ns: what follows from it cannot have been known before."""
    feeds_candles: bool = True
    """False where the other channel of the instrument does."""
