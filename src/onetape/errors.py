"""The errors of OneTape, one class per reaction.

* OneTapeError
    * UsageError       stop: a human must change a setting, an argument or a file
    * RetryBatch       keep the batch and commit it again later
    * BadFrame         skip this frame: quarantine it, count it, go on
    * RestError
        * TryAgain     wait ``retry_after_ns``, then ask again
        * GiveUp       drop this request and what stands behind it, keep the others
        * ClockSkew    measure the venue's clock, then ask again
"""


class OneTapeError(Exception):
    """Base of every error raised on purpose."""


class UsageError(OneTapeError):
    """Stop: the message is one line that says what to change."""


class RetryBatch(OneTapeError):
    """A store took nothing of a batch, for a reason that may pass (a full disk); the message is one line."""


class BadFrame(OneTapeError):
    """A frame, or a part of one, that cannot be trusted.

    ``symbol`` and ``channel`` say what it would have spoken of, as far as that could be read: both empty means that
    it may have been anything, book data included.
    """

    def __init__(self, reason: str, symbol: str = "", channel: str = "") -> None:
        super().__init__(reason)
        self.reason, self.symbol, self.channel = reason, symbol, channel


class RestError(OneTapeError):
    """A REST answer that is not the data asked for; ``reason`` carries the venue's code and words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TryAgain(RestError):
    """Transient. ``retry_after_ns`` is the venue's own wait where it names one, else 0: the caller's backoff."""

    def __init__(self, reason: str, retry_after_ns: int = 0) -> None:
        super().__init__(reason)
        self.retry_after_ns = retry_after_ns


class GiveUp(RestError):
    """Permanent: asking again cannot help."""


class ClockSkew(RestError):
    """The venue refuses our timestamp."""
