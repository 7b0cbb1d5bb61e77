# To the type checker the compiled book is the reference: it fills the same interface, and tests hold it to that.
from onetape.book.order_book import OrderBook as OrderBook
from onetape.book.order_book import merged as merged
