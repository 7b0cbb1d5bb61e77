# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, binding=False
"""The running candle of running.py, compiled: sums of integers, which become Decimals when somebody reads them.

It sums short numbers, in units of 10**-8, as model/_numbers.pyx knows them. With the first number that is longer, or a
sum that 128 bits might not hold, the candle becomes one of the reference, and stays one.
"""
from libc.stdint cimport int64_t, uint64_t

from onetape.model._numbers cimport units_of

from decimal import Decimal

from onetape.candles.running import RunningCandle as Reference
from onetape.candles.running import _EXACT, follows, precedes
from onetape.model import BUY

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    const unsigned char* PyUnicode_1BYTE_DATA(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)

cdef extern from *:
    """
    typedef __int128 int128;  /* a compiler without it builds none of this: then the reference runs */
    """
    ctypedef long long int128  # its size is the C compiler's business

DEF PLACES = 8  # of the units of a price and of a size; their product has twice as many

cdef object buy = BUY
cdef int128 MOST = <int128>1 << 125  # one more trade adds less than that again: 10**36


cdef class RunningCandle:
    """See running.py."""

    cdef object wide  # the reference, once it has taken over; else None
    cdef int64_t count, first_time, last_time, high_units, low_units
    cdef int128 sum, product, bought
    cdef object open_price, high_price, low_price, close_price
    cdef str first_trade, last_trade

    def __init__(self, it):
        cdef int64_t price, size
        self.wide = None
        if not units_of(it.price, &price) or not units_of(it.size, &size):
            self.wide = Reference(it)
            return
        self.count = 1
        self.open_price = self.high_price = self.low_price = self.close_price = it.price
        self.high_units = self.low_units = price
        self.first_time = self.last_time = it.exchange_time
        self.first_trade = self.last_trade = it.id
        self.sum = size
        self.product = <int128>price * size
        self.bought = size if it.side is buy else 0

    def add(self, it):
        """Takes one more trade. The hot path of all candles."""
        cdef int64_t price, size, time
        worth, amount = it.price, it.size
        if not (self.wide is None and self.product < MOST and units_of(worth, &price) and units_of(amount, &size)):
            self.widened().add(it)
            return
        time = it.exchange_time
        self.count += 1
        self.sum += size
        self.product += <int128>price * size
        if it.side is buy:
            self.bought += size
        if price > self.high_units:
            self.high_price, self.high_units = worth, price
        elif price < self.low_units:
            self.low_price, self.low_units = worth, price
        if time > self.last_time:
            self.close_price, self.last_time, self.last_trade = worth, time, it.id
        elif time == self.last_time and later(it.id, self.last_trade):
            self.close_price, self.last_trade = worth, it.id
        elif time < self.first_time or (time == self.first_time and earlier(it.id, self.first_trade)):
            self.open_price, self.first_time, self.first_trade = worth, time, it.id

    def merge(self, RunningCandle other not None):
        """Takes the trades of another, which stays as it is; neither may be carried."""
        if not (self.wide is None and other.wide is None and self.product < MOST and other.product < MOST):
            self.widened().merge(other.reference())
            return
        self.count += other.count
        self.sum += other.sum
        self.product += other.product
        self.bought += other.bought
        if other.high_units > self.high_units:
            self.high_price, self.high_units = other.high_price, other.high_units
        if other.low_units < self.low_units:
            self.low_price, self.low_units = other.low_price, other.low_units
        if other.last_time > self.last_time or (
            other.last_time == self.last_time and later(other.last_trade, self.last_trade)
        ):
            self.close_price, self.last_time = other.close_price, other.last_time
            self.last_trade = other.last_trade
        if other.first_time < self.first_time or (
            other.first_time == self.first_time and earlier(other.first_trade, self.first_trade)
        ):
            self.open_price, self.first_time = other.open_price, other.first_time
            self.first_trade = other.first_trade

    @classmethod
    def of(cls, it):
        """What a finished candle says of its trades: its sums have twice the digits, so that it is of the reference."""
        return of_reference(Reference.of(it))

    def copy(self):
        cdef RunningCandle new = RunningCandle.__new__(RunningCandle)
        if self.wide is not None:
            new.wide = self.wide.copy()
            return new
        new.wide = None
        new.count, new.sum, new.product, new.bought = self.count, self.sum, self.product, self.bought
        new.first_time, new.first_trade = self.first_time, self.first_trade
        new.last_time, new.last_trade = self.last_time, self.last_trade
        new.open_price, new.close_price = self.open_price, self.close_price
        new.high_price, new.high_units = self.high_price, self.high_units
        new.low_price, new.low_units = self.low_price, self.low_units
        return new

    def carried(self):
        """An empty candle at the close of this one; ``last`` still tells which trade that was."""
        return of_reference(self.reference().carried())

    def candle(self, id, interval, start, end, now, *, complete, final, revision=0):
        return self.reference().candle(
            id, interval, start, end, now, complete=complete, final=final, revision=revision)

    cdef object reference(self):
        """What it says as one of the reference, not to be changed."""
        if self.wide is not None:
            return self.wide
        new = Reference.__new__(Reference)
        new.trades = self.count
        new.open, new.high, new.low, new.close = self.open_price, self.high_price, self.low_price, self.close_price
        new.first, new.last = self.first_time, self.last_time
        new.first_id, new.last_id = self.first_trade, self.last_trade
        new.volume, new.taker_buy_volume = exact(self.sum, PLACES), exact(self.bought, PLACES)
        new.quote_volume = exact(self.product, 2 * PLACES)
        return new

    cdef object widened(self):
        """From now on it is one of the reference."""
        self.wide = self.reference()
        return self.wide

    @property
    def trades(self):
        return self.count if self.wide is None else self.wide.trades

    @property
    def open(self):
        return self.reference().open

    @property
    def high(self):
        return self.reference().high

    @property
    def low(self):
        return self.reference().low

    @property
    def close(self):
        return self.close_price if self.wide is None else self.wide.close

    @property
    def volume(self):
        return self.reference().volume

    @property
    def quote_volume(self):
        return self.reference().quote_volume

    @property
    def taker_buy_volume(self):
        return self.reference().taker_buy_volume

    @property
    def first(self):
        return self.first_time if self.wide is None else self.wide.first

    @property
    def first_id(self):
        return self.first_trade if self.wide is None else self.wide.first_id

    @property
    def last(self):
        return self.last_time if self.wide is None else self.wide.last

    @property
    def last_id(self):
        return self.last_trade if self.wide is None else self.wide.last_id


cdef RunningCandle of_reference(object it):
    cdef RunningCandle new = RunningCandle.__new__(RunningCandle)
    new.wide = it
    return new


cdef bint later(str new, str old) except -1:
    """See ``follows``: many trades have the time of the one before."""
    cdef int64_t one, other
    return one > other if whole(new, &one) and whole(old, &other) else follows(new, old)


cdef bint earlier(str new, str old) except -1:
    """See ``precedes``."""
    cdef int64_t one, other
    return one < other if whole(new, &one) and whole(old, &other) else precedes(new, old)


cdef bint whole(str id, int64_t* value):
    """An id that is a number, and not a long one."""
    cdef const unsigned char* p = PyUnicode_1BYTE_DATA(id)
    cdef Py_ssize_t at, size = PyUnicode_GET_LENGTH(id)
    if not PyUnicode_IS_ASCII(id) or not 0 < size < 19:
        return False
    value[0] = 0
    for at in range(size):
        if not 48 <= p[at] <= 57:
            return False
        value[0] = value[0] * 10 + (p[at] - 48)
    return True


cdef object exact(int128 value, int places):
    """A sum as a Decimal; none is below zero."""
    cdef object high = <uint64_t>(value >> 64), low = <uint64_t>value
    return _EXACT.scaleb(Decimal(high << 64 | low), -places)
