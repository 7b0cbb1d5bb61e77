"""What a client's program prints of what its library told it: a line of JSON each, for the test to compare."""
import json
import sys
import time


def say(kind, **fields):
    sys.stdout.write(json.dumps({"kind": kind, "seen": time.time_ns(), **fields}) + "\n")
    sys.stdout.flush()


def trade(via, id, price, size, side, count=None):
    """``side``: the taker's; ``count``: of the executions that are one here."""
    say("trade", via=via, id=str(id), price=str(price), size=str(size), side=side.lower(), count=count)


def book(via, bids, asks, nonce=None, time=None):
    """Levels best first; ``nonce``: the venue's number of it; ``time``: in ms."""
    say("book", via=via, bids=levels(bids), asks=levels(asks), nonce=nonce, time=time)


def levels(side):
    return [[str(price), str(size)] for price, size, *_ in side]


def candle(start, open, high, low, close, volume):
    """``start``: in ms."""
    say("candle", start=start, prices=[str(it) for it in (open, high, low, close)], volume=str(volume))


class Book:
    """Kept by hand, as the venue's documents say, for libraries that keep none: the frames come from the library."""

    def __init__(self):
        self.bids, self.asks = {}, {}

    def snapshot(self, bids, asks):
        self.bids, self.asks = {}, {}
        self.update(bids, asks)

    def update(self, bids, asks):
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            for price, size, *_ in changes:
                if float(size):
                    side[price] = size
                else:
                    side.pop(price, None)

    def best(self, depth):
        return (
            sorted(self.bids.items(), key=lambda it: -float(it[0]))[:depth],
            sorted(self.asks.items(), key=lambda it: float(it[0]))[:depth],
        )
