# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, binding=False
"""What validation.py remembers of an instrument and its pair, compiled: nearly all trades are seen to be usual by integers.

Limits and sums are kept in units of 10**-8, as model/_numbers.pyx knows short numbers; longer ones are compared as the
Decimals that they are.
"""
from libc.stdint cimport INT64_MAX, int64_t

from onetape.model._numbers cimport units_of

from decimal import Decimal

from onetape.tape.validation import _ZERO, AHEAD_NS, BEYOND, EARLIEST

cdef object ZERO = _ZERO  # the very one that sums begin with
cdef object UNIT = Decimal("1E-8")
cdef object beyond = BEYOND
cdef int64_t earliest = EARLIEST, ahead_ns = AHEAD_NS
cdef int64_t FULL = INT64_MAX // 2  # the largest short number is 10**18


cdef class Pair:
    """See validation.py."""

    cdef readonly dict members
    cdef object low_exact, high_exact
    cdef int64_t low_units, high_units

    def __init__(self):
        self.members = {}
        self.low = self.high = ZERO

    @property
    def low(self):
        return self.low_exact

    @low.setter
    def low(self, value):
        self.low_exact, self.low_units = value, up(value)

    @property
    def high(self):
        return self.high_exact

    @high.setter
    def high(self, value):
        self.high_exact, self.high_units = value, down(value)


cdef class Recent:
    """See validation.py."""

    cdef readonly Pair pair
    cdef public object price, time
    cdef public double mean
    cdef public int count, fold_at
    cdef object huge_exact, sum_exact
    cdef int64_t huge_units, sum_units  # of the sum: as long as all of it is short

    def __init__(self, Pair pair not None):
        self.pair, self.price, self.time = pair, None, 0
        self.mean, self.count, self.fold_at = 0.0, 0, 1
        self.sum = self.huge = ZERO

    def usual(self, it):
        """Nothing of it is impossible, and nothing odd: no more has to be asked of nearly all trades."""
        cdef int64_t price, size, time, received
        cdef Pair pair = self.pair
        try:
            time, received = it.exchange_time, it.received_time
        except OverflowError:
            return False
        if received < earliest or time < earliest or time - ahead_ns > received:
            return False
        worth, amount = it.price, it.size
        if units_of(worth, &price) and units_of(amount, &size):
            return pair.low_units <= price <= pair.high_units and 0 < size <= self.huge_units
        return pair.low_exact <= worth <= pair.high_exact and ZERO < amount <= self.huge_exact < beyond

    def add(self, it):
        """Takes a trade into account; True: there are enough sizes now for the mean."""
        cdef int64_t size
        amount = it.size
        self.price, self.time = it.price, it.exchange_time
        if self.sum_exact is ZERO and self.sum_units < FULL and units_of(amount, &size):
            self.sum_units += size
        else:
            self.sum = self.sum + amount
        self.count += 1
        return self.count >= self.fold_at

    @property
    def sum(self):
        return self.sum_units * UNIT if self.sum_exact is ZERO else self.sum_exact

    @sum.setter
    def sum(self, value):
        self.sum_exact, self.sum_units = value, 0

    @property
    def huge(self):
        return self.huge_exact

    @huge.setter
    def huge(self, value):
        self.huge_exact, self.huge_units = value, down(value) if value < beyond else -1


cdef int64_t down(value) except? -1:
    """In whole units: what is no greater than these is no greater than the value, and the other way round."""
    above, below = value.as_integer_ratio()
    return min(above * 10**8 // below, INT64_MAX)


cdef int64_t up(value) except? -1:
    above, below = value.as_integer_ratio()
    return min(-(-above * 10**8 // below), INT64_MAX)
