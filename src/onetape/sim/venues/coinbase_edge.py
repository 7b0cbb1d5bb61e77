"""What stands before the REST of the simulated Coinbase: budgets by address, a cache, and how requests are read."""
from collections.abc import Mapping

from msgspec import Struct

from onetape.clock import MILLISECOND
from onetape.sim.base import Response
from onetape.sim.venues.kraken_rest import Bucket

ANSWER = 30 * MILLISECOND
ADDRESSES, CACHED = 10_000, 1_000
"""How many are remembered."""


class Problem(Exception):
    """A request that fails."""

    def __init__(self, status: int, text: str, code: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.code = status, text, code


class Ask(Struct, frozen=True):
    """One request. ``now`` is true time, ``skew`` what the venue's clock is wrong by."""

    query: Mapping[str, str]
    now: int
    skew: int

    def number(self, name: str) -> int | None:
        text = self.query.get(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise Problem(400, f"Invalid {name}", "INVALID_ARGUMENT")
        return int(text)


class Edge:
    """So many requests at once from an address, so many a second in the long run."""

    def __init__(self, at_once: int, per_second: int) -> None:
        self._at_once, self._per_second = at_once, per_second
        self._buckets: dict[str, Bucket] = {}
        self._answers: dict[str, tuple[int, Response]] = {}

    def take(self, client: str, now: int) -> bool:
        """The address used longest ago is forgotten when there are too many."""
        bucket = self._buckets.pop(client, None) or Bucket(self._at_once, self._per_second, now)
        self._buckets[client] = bucket
        if len(self._buckets) > ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)

    def cached(self, target: str, now: int) -> Response | None:
        """An answer of a while ago: it costs nothing."""
        until, response = self._answers.get(target, (0, None))
        return response if now < until else None

    def keep(self, target: str, response: Response, now: int, age: int) -> None:
        if len(self._answers) >= CACHED:
            self._answers = {key: it for key, it in self._answers.items() if it[0] > now}
        if age and len(self._answers) < CACHED:
            self._answers[target] = now + age, response
