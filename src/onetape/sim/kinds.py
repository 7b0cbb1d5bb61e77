"""Words for what can go wrong: the kinds of faults, and one fault as a plan says it."""
from enum import StrEnum

from msgspec import Struct


class FaultKind(StrEnum):
    """What can go wrong. *Data frames* are those that speak of a channel; acks and heartbeats are none."""

    DROP = "drop"
    """A data frame is left out."""
    DOUBLE = "double"
    """A data frame comes twice."""
    DELAY = "delay"
    """A data frame, and all that stands behind it on its connection, comes ``seconds`` late."""
    REORDER = "reorder"
    """A data frame comes after the one that follows it."""
    CORRUPT = "corrupt"
    """A data frame is no JSON any more. Digits do not change: TCP protects them."""
    GARBAGE = "garbage"
    """Random bytes come as a frame of their own before a data frame."""
    GIANT = "giant"
    """Every connection gets a frame of 64 MB, or ``code`` bytes; again every ``seconds`` while it lasts."""
    CHECKSUM = "checksum"
    """A book's checksum is wrong."""
    SKIP_SEQUENCE = "skip_sequence"
    """A data frame is left out, and its numbers with it."""
    HALF_OPEN = "half_open"
    """Connections that exist at ``at`` are dead from then on, in both directions, and nobody is told."""
    SILENT = "silent"
    """Data frames of ``symbol`` and ``channel`` stay away while everything else goes on."""
    SLOW_REST = "slow_rest"
    """REST answers come ``seconds`` later."""
    STALE_SNAPSHOT = "stale_snapshot"
    """A REST snapshot is from ``seconds`` ago; an in-band one does not fit its checksum."""
    REST_STATUS = "rest_status"
    """REST requests end in status ``code`` (503), with ``seconds`` as Retry-After."""
    CLOSE = "close"
    """Every connection is closed with ``code`` (0 or 1006: without a word); again every ``seconds`` while it lasts."""
    NOTICE = "notice"
    """The venue announces its shutdown, and closes 10 s later."""
    CLOCK_SKEW = "clock_skew"
    """The venue's times are shifted by ``seconds``."""
    REFUSE_SYMBOL = "refuse_symbol"
    """Subscribing to ``symbol`` is refused the venue's way."""
    REFUSE_CONNECT = "refuse_connect"
    """WebSocket handshakes end in HTTP status ``code`` (503), with ``seconds`` as Retry-After."""
    DNS = "dns"
    """The venue's names are not found: no connection, no request."""
    BAD_CERTIFICATE = "bad_certificate"
    """New TLS handshakes show a certificate of another name, or with ``code`` 1 an expired one. Without TLS: nothing.
    Who asks for localhost or an address names no venue: such a handshake is hit whatever the venue is."""
    UNLISTED = "unlisted"
    """``symbol`` is not listed, not yet or no more: the list of instruments lacks it, it is refused like something that
    never was, and nothing is said of it."""
    EMPTY_LIST = "empty_list"
    """The list of instruments has none."""
    BAD_LIST = "bad_list"
    """The list of instruments is cut somewhere; with ``code``: whole, but filled up with blanks to so many bytes."""
    HISTORY_EMPTY = "history_empty"
    """REST's page of trades has no rows; here and in all kinds of history, what stands around the rows is as it was."""
    HISTORY_CUT = "history_cut"
    """The last rows of a page of trades are missing; with ``code`` 1: the body ends in the middle of its bytes."""
    HISTORY_SHUFFLED = "history_shuffled"
    """The rows of a page of trades are in no order."""
    HISTORY_DOUBLED = "history_doubled"
    """Each row of a page of trades comes twice, or the page begins with rows that belong to the one before."""
    HISTORY_FOREIGN = "history_foreign"
    """A page of trades has the newest rows of another symbol."""
    HISTORY_BACKWARDS = "history_backwards"
    """A page of trades has rows that are older than all that were asked for."""
    HISTORY_HTML = "history_html"
    """In place of a page of trades an HTML page comes, in status 200."""
    HISTORY_HOLES = "history_holes"
    """Rows are missing in the middle of each page of trades, whatever the share: up to three that have not been missing
    before, so that another request gets them; with ``code`` 1 the same one in 25 ids, each time."""
    HISTORY_LATE = "history_late"
    """The trades of the last ``seconds`` are not in REST yet."""
    VENUE_SKIPS = "venue_skips"
    """The venue's own ids jump: before ``share`` of the matches, ``code`` numbers (1) are given to none at all."""


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong from ``at`` until ``at + lasts``, seconds after the start."""

    kind: FaultKind
    venue: str = ""
    """Empty: all. So are ``symbol`` and ``channel``."""
    at: float = 0.0
    lasts: float = 0.0
    """0 is enough for what happens at one moment: close, notice, half_open, giant."""
    symbol: str = ""
    channel: str = ""
    share: float = 1.0
    """Of the frames, connections or requests that it concerns: how many it hits."""
    code: int = 0
    seconds: float = 0.0

    def ends(self) -> float:
        return self.at + self.lasts


OF_HISTORY = (
    FaultKind.HISTORY_LATE, FaultKind.HISTORY_FOREIGN, FaultKind.HISTORY_BACKWARDS, FaultKind.HISTORY_DOUBLED,
    FaultKind.HISTORY_HOLES, FaultKind.HISTORY_CUT, FaultKind.HISTORY_EMPTY, FaultKind.HISTORY_SHUFFLED,
    FaultKind.HISTORY_HTML,
)
"""In the order in which they strike where several do."""
WITH_SYMBOL = (FaultKind.REFUSE_SYMBOL, FaultKind.UNLISTED)
