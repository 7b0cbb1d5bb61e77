"""What a venue's checksum of given levels is."""
from onetape.book import OrderBook
from onetape.model import Levels


def checksum(venue, symbol, bids, asks):
    book = OrderBook()
    book.replace(Levels.of(bids), Levels.of(asks))
    return venue.checksum(symbol, book)
