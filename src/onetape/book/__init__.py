"""The order book that runs: the compiled kernel where there is one, else the reference in pure Python."""
from onetape.book.order_book import OrderBook, Window, merged

try:
    from onetape.book import _kernel

    _compiled = _kernel.OrderBook, _kernel.merged
except (ImportError, AttributeError):  # not built, for another Python, of an older source; or ONETAPE_PURE is set
    COMPILED = False
else:
    COMPILED = True
    OrderBook, merged = _compiled  # type: ignore[misc]  # the same class to the type checker: _kernel.pyi

__all__ = ["COMPILED", "OrderBook", "Window", "merged"]
