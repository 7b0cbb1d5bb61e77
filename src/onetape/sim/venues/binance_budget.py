"""What each address may still ask of the simulated Binance over REST (sections 7 to 9)."""
from msgspec import Struct

from onetape.clock import DAY, MINUTE, SECOND

WEIGHT, USDM_WEIGHT = 6_000, 2_400
"""Per address and minute of the clock."""
PATIENCE = 5
"""So many 429 in a minute are answered before the address is banned: requests already under way are forgiven."""
FIRST_BAN, LONGEST_BAN = 2 * MINUTE, 3 * DAY
ADDRESSES = 10_000
"""How many are remembered."""


class Verdict(Struct, frozen=True):
    """On one request."""

    status: int
    """200, 429 or 418."""
    used: int
    """In this minute, this request included."""
    until: int = 0
    """When to come back, unless it is 200."""


class _Budget(Struct):
    minute: int = -1
    used: int = 0
    refused: int = 0
    ban: int = 0  # the length of the last one
    banned_until: int = 0


class Budgets:
    """By address; the window is the minute of the clock, not the last sixty seconds."""

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self._budgets: dict[str, _Budget] = {}

    def charge(self, client: str, weight: int, now: int) -> Verdict:
        """Counts a request, refused ones too."""
        it = self._budget(client)
        if it.minute != now // MINUTE:
            it.minute, it.used, it.refused = now // MINUTE, 0, 0
        it.used += weight
        if now < it.banned_until:
            it.banned_until = now + it.ban  # every further request extends it
            return Verdict(418, it.used, it.banned_until)
        if it.used <= self.weight:
            return Verdict(200, it.used)
        it.refused += 1
        if it.refused <= PATIENCE:
            return Verdict(429, it.used, (it.minute + 1) * MINUTE)
        it.ban = min(max(2 * it.ban, FIRST_BAN), LONGEST_BAN)
        it.banned_until = now + it.ban
        return Verdict(418, it.used, it.banned_until)

    def _budget(self, client: str) -> _Budget:
        """The one used longest ago is forgotten when there are too many."""
        it = self._budgets.pop(client, None) or _Budget()
        self._budgets[client] = it
        if len(self._budgets) > ADDRESSES:
            del self._budgets[next(iter(self._budgets))]
        return it


def seconds_until(time: int, now: int) -> str:
    """For Retry-After: whole seconds, never too few."""
    return str(max(-(-(time - now) // SECOND), 1))
