"""Writes what really happened, for others to compare with."""
from pathlib import Path
from typing import Self

import msgspec
import zstandard

from onetape.errors import UsageError
from onetape.sim.base import Happening
from onetape.sim.simulator import Simulator

FLUSH_BYTES = 1 << 20


class TruthLog:
    """A context manager: from its beginning to its end all that happens is written, as JSON lines under zstd.

    First a line for each instrument: ``{"venue", "symbol", "tick", "lot", "sequence", "match", "bids", "asks"}``, its
    book as it is. Then one for each order: ``{"venue", "symbol", "time", "changes": [[sequence, bid, price, size]],
    "matches": [[id, price, size, buy]]}``. Prices count in ticks, sizes in lots, times in ns since the epoch.
    """

    def __init__(self, path: Path, simulator: Simulator) -> None:
        self._path, self._simulator = path, simulator

    def __enter__(self) -> Self:
        """Raises UsageError: the file cannot be written."""
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise UsageError(f"cannot write the truth to {self._path}: {error.strerror}") from error
        self._out = zstandard.ZstdCompressor(level=3).stream_writer(self._file)
        self._unflushed = 0
        for (venue, symbol), truth in self._simulator.market.truths.items():
            last = truth.last_matches(1)
            self._write({
                "venue": venue, "symbol": symbol, "tick": str(truth.listing.tick), "lot": str(truth.listing.lot),
                "sequence": truth.sequence, "match": last[0].id if last else 0,
                "bids": truth.bids(), "asks": truth.asks(),
            })
        self._simulator.witness = self._happened
        return self

    def __exit__(self, *_error: object) -> None:
        self._simulator.witness = None
        self._out.close()  # type: ignore[no-untyped-call]

    def _happened(self, it: Happening) -> None:
        self._write({
            "venue": it.listing.venue, "symbol": it.listing.symbol, "time": it.time,
            "changes": [(one.sequence, one.bid, one.price, one.size) for one in it.changes],
            "matches": [(one.id, one.price, one.size, one.buy) for one in it.matches],
        })

    def _write(self, row: object) -> None:
        line = msgspec.json.encode(row) + b"\n"
        self._out.write(line)
        self._unflushed += len(line)
        if self._unflushed >= FLUSH_BYTES:
            self._unflushed = 0
            self._out.flush(zstandard.FLUSH_FRAME)
