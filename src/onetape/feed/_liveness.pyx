# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, binding=False
"""The habits of a subscription of liveness.py, compiled: they are looked after with every frame."""
from libc.stdint cimport int64_t

from onetape.feed.liveness import FAR_BEYOND, MIN_HISTORY, MIN_SILENCE_NS


cdef class Pulse:
    """See liveness.py."""

    cdef public int64_t arrivals, changed, last, longest, most, traded, trades, vain
    cdef public bint suspected
    cdef public Pulse book

    def __init__(self, int64_t now, int64_t most_ns):
        self.last, self.most = now, most_ns

    def beat(self, int64_t now):
        """The subscription has brought data."""
        if now - self.last > self.longest and self.arrivals:
            self.longest = now - self.last
        self.arrivals += 1
        self.last = now
        self.suspected, self.trades = False, 0
        if self.book is not None:
            self.book.trades += 1

    def limit(self):
        """The silence that would be far beyond its history; None as long as there is too little of it."""
        return max(MIN_SILENCE_NS, FAR_BEYOND * self.longest) if self.arrivals >= MIN_HISTORY else None
