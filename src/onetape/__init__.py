"""OneTape: the consolidated tape and order book of crypto, verified and gap-aware."""
import os
import sys

__version__ = "0.1.0"

PURE = os.environ.get("ONETAPE_PURE", "") not in ("", "0")
"""The reference in Python is to run, nothing that is compiled. Said here: what chooses reads no environment."""
COMPILED_MODULES = (
    "onetape.book._kernel", "onetape.model._numbers", "onetape.candles._running", "onetape.tape._validation",
    "onetape.feed._liveness",
)
"""What may be built in C; each has its reference beside it."""
if PURE:
    for _name in COMPILED_MODULES:
        sys.modules[_name] = None  # type: ignore[assignment]  # it cannot be imported then
