"""What each address may still ask of the simulated OKX over REST: in each window so much of each endpoint."""
from collections.abc import Mapping

from onetape.clock import SECOND

WINDOW = 2 * SECOND
LIMITS: Mapping[str, int] = {
    "/api/v5/public/time": 10, "/api/v5/public/instruments": 20, "/api/v5/market/books": 40,
    "/api/v5/market/books-full": 10, "/api/v5/market/books-rpi": 20, "/api/v5/market/trades": 100,
    "/api/v5/market/history-trades": 20, "/api/v5/market/candles": 40, "/api/v5/market/history-candles": 20,
    "/api/v5/market/tickers": 20, "/api/v5/market/ticker": 20, "/api/v5/system/status": 1,
}
STATUS_WINDOW = 5 * SECOND
ADDRESSES = 10_000
"""How many pairs of address and endpoint are remembered."""


class Problem(Exception):
    """A failure: its code, which tells more than the HTTP status."""

    def __init__(self, code: str, text: str, status: int = 200) -> None:
        super().__init__(text)
        self.code, self.status = code, status


class Budgets:
    """Windows are fixed; nothing tells a client how much of one it has used."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str, str], tuple[int, int]] = {}

    def spend(self, client: str, path: str, kind: str, now: int) -> None:
        """Raises Problem. ``kind``: of instruments, each of which is counted by itself."""
        key = client, path, kind if path == "/api/v5/public/instruments" else ""
        window = now // (STATUS_WINDOW if path == "/api/v5/system/status" else WINDOW)
        begun, used = self._used.pop(key, (window, 0))
        used = used + 1 if begun == window else 1
        self._used[key] = window, used
        if len(self._used) > ADDRESSES:
            del self._used[next(iter(self._used))]
        if used > LIMITS[path]:
            raise Problem("50011", "Too Many Requests", 429)
