"""How the books of one venue are kept: the facts that a venue's table states and BookSync follows."""
from enum import StrEnum

from msgspec import Struct

from onetape.clock import SECOND


class Snapshots(StrEnum):
    """How the snapshot of a book comes."""

    IN_BAND = "in_band"
    """On subscribing; to get another, unsubscribe and subscribe again."""
    REST = "rest"
    """Always asked for."""
    IN_BAND_OR_REST = "in_band_or_rest"
    """On subscribing; asked for by REST where it stays away."""


class BookRules(Struct, frozen=True):
    snapshots: Snapshots
    resends: bool
    """Levels that left the depth are sent again when they come back: truncate to the depth, no edge to mind."""
    overlapping: bool = False
    """Deltas may overlap the book's sequence (Binance spot)."""
    counted: bool = False
    """Deltas carry no number of their own, their arrivals are counted: one that went astray is missed by no number."""
    checksum_depth: int = 0
    """Levels per side that the checksum sees; 0: none."""
    crossed_grace_ns: int = 0
    crossed_grace_messages: int = 0
    """How long a crossed book may stay so before it is resynchronised."""
    silence_ns: int = 0
    """A book that says nothing for so long has a dead subscription, whatever its siblings do; 0: no such limit."""
    halts: frozenset[str] = frozenset()
    """Status words of the whole venue on which its books can no longer be trusted."""
    snapshot_wait_ns: int = 5 * SECOND
    """From asking for a snapshot in band until asking again."""
    resync_every_ns: int = 5 * SECOND
    """Least time between two requests for one book; doubled each time up to a minute."""
    reconnect_after: int = 3
    """Requests in vain after which the connection is given up, if no other book on it lives."""
