"""OneTape: the consolidated tape and order book of crypto, verified and gap-aware."""
import os
import sys

__version__ = "0.1.0"

PURE = os.environ.get("ONETAPE_PURE", "") not in ("", "0")
"""The reference in Python is to run, not the compiled order book. Said here: `book` reads no environment."""
if PURE:
    sys.modules["onetape.book._kernel"] = None  # type: ignore[assignment]  # it cannot be imported then
