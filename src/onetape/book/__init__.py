"""The order book that runs: the compiled kernel where there is one, else the reference in pure Python."""
from onetape.book.order_book import OrderBook, Window, merged

try:
    from onetape.book import _kernel
except ImportError:  # not built, built for another Python, or ONETAPE_PURE is set
    COMPILED = False
else:
    COMPILED = True
    OrderBook = _kernel.OrderBook  # type: ignore[misc]  # the same class to the type checker: _kernel.pyi
    merged = _kernel.merged

__all__ = ["COMPILED", "OrderBook", "Window", "merged"]
