"""Everything that can come from outside: numbered, timed, and all that a replay needs."""
from msgspec import Struct

from onetape.feed.patience import Patience
from onetape.model import Instrument, Need, Subscription
from onetape.venues.base import Timings


class _Input(Struct, frozen=True, gc=False, kw_only=True):
    number: int
    """Counts the inputs of the process, from 1, without a hole."""
    time: int
    """ns since the epoch; never less than that of the input before."""
    connection: str


class Opened(_Input, frozen=True, gc=False):
    """The socket stands."""


class Frame(_Input, frozen=True, gc=False):
    data: bytes


class Answer(_Input, frozen=True, gc=False):
    """Of REST, to the Fetch with this id; in recordings of others the url stands for it."""

    id: int
    status: int
    body: bytes
    url: str = ""
    headers: dict[str, str] = {}
    """Names in lower case; only those that tell how long to wait, and what is left."""


class Failed(_Input, frozen=True, gc=False):
    """A Fetch that brought no answer at all."""

    id: int
    reason: str


class Pinged(_Input, frozen=True, gc=False):
    """A ping or pong frame of the WebSocket itself."""


class Closed(_Input, frozen=True, gc=False):
    """The socket is gone, or could not be had."""

    reason: str
    code: int = 0
    """With which the venue closed the WebSocket; 0: none was given."""
    status: int = 0
    """HTTP status of a handshake that was refused; 0: it did not come so far."""
    retry_after_ns: int = 0


class Setup(Struct, frozen=True):
    """What a line is made with."""

    venue: str
    route: str
    wanted: tuple[Subscription, ...]
    timings: Timings | None = None
    """None: the venue's own."""
    patience: Patience = Patience()
    addresses: int = 1
    """How many can be tried in turn."""


class Started(_Input, frozen=True):
    """A venue's instruments are known, and its lines are to connect; ``connection`` is the venue's name."""

    lines: dict[str, Setup]
    instruments: tuple[Instrument, ...] = ()
    """All that the venue lists."""
    max_age_ns: int = 0
    """Trades that are missing for longer are not asked for; 0: none are."""


class Needed(_Input, frozen=True):
    """The pipeline misses something of the past; ``connection`` is the venue's name."""

    need: Need


class Listed(_Input, frozen=True):
    """The venue's whole instrument list, the pages of its REST answers; ``connection`` is the venue's name."""

    pages: tuple[bytes, ...]
    lines: dict[str, Setup] | None = None
    """What all the venue's lines are to be from now on; None: they stay as they are."""


class Unlisted(_Input, frozen=True, gc=False):
    """The venue's instruments could not be had yet; ``connection`` is the venue's name."""

    reason: str


class Stopped(_Input, frozen=True, gc=False):
    """All lines are to end; ``connection`` is empty."""


Input = Opened | Frame | Answer | Failed | Pinged | Closed | Needed | Listed | Unlisted | Started | Stopped
