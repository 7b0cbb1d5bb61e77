# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, binding=False
"""The numbers of numbers.py, compiled, and each of them as an integer for whoever sums and compares.

It reads what nearly all are: up to ten digits, up to eight behind the point. All else is read by the reference: so both
accept and refuse the same, with the same words. Two memos forget by being written over: from a text to its Decimal,
which comes again and again, and from a Decimal back to its digits, which it does not give away.
"""
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uintptr_t

from decimal import Decimal

from onetape.model.numbers import level_number as level_number_slowly
from onetape.model.numbers import number as number_slowly

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object)
    const unsigned char* PyUnicode_1BYTE_DATA(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)

DEF DIGITS = 10  # before the point
DEF PLACES = 8  # behind it: a unit is the last of them
DEF ENTRIES = 8_192  # a power of two

cdef struct Read:  # a text that was read
    PyObject* text  # owned, as all here is
    PyObject* value
    Py_hash_t hash

cdef struct Known:  # a Decimal whose digits are known
    PyObject* value
    int64_t units

cdef Read[ENTRIES] memo
cdef Known[ENTRIES] known
cdef object new_decimal = Decimal


def number(str text not None):
    """See numbers.py."""
    value = recalled(text)
    return number_slowly(text) if value is None else value


def level_number(str text not None):
    """See numbers.py."""
    value = recalled(text)
    return level_number_slowly(text) if value is None else value


cdef object recalled(str text):
    """The Decimal of a short text; None if it is not one."""
    cdef Py_hash_t hash = PyObject_Hash(text)
    cdef Read* it = &memo[<size_t>hash & (ENTRIES - 1)]
    cdef int64_t units
    if it.text != NULL and it.hash == hash and (it.text == <PyObject*>text or <object>it.text == text):
        return <object>it.value
    if not read(text, &units):
        return None
    value = new_decimal(text)
    keep(&it.text, text)
    keep(&it.value, value)
    it.hash = hash
    remember(value, units)
    return value


cdef bint read(str text, int64_t* units) noexcept:
    """Of a text that is a plain number and short, its value in units."""
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    cdef const unsigned char* p = PyUnicode_1BYTE_DATA(text)
    cdef const unsigned char* end = p + size
    cdef const unsigned char* begin = p
    cdef int64_t value = 0
    cdef int left = PLACES
    if size > DIGITS + 1 + PLACES or not PyUnicode_IS_ASCII(text):
        return False
    while p < end and 48 <= p[0] <= 57:
        value = value * 10 + (p[0] - 48)
        p += 1
    if p == begin or p - begin > DIGITS:
        return False
    if p < end:
        if p[0] != 46 or end - p == 1 or end - p > 1 + PLACES:
            return False
        p += 1
        while p < end and 48 <= p[0] <= 57:
            value = value * 10 + (p[0] - 48)
            left -= 1
            p += 1
        if p < end:
            return False
    while left:
        value *= 10
        left -= 1
    units[0] = value
    return True


cdef bint units_of(object value, int64_t* units) noexcept:
    """The value of a Decimal in units of 10**-8, exactly; False where it is not a short number."""
    cdef Known* it = place_of(value)
    if it.value == <PyObject*>value:
        units[0] = it.units
        return True
    try:
        if type(value) is not new_decimal or not read(str(value), units):
            return False
    except Exception:  # no memory, say: the reference will tell
        return False
    remember(value, units[0])
    return True


cdef Known* place_of(object value) noexcept:
    cdef uintptr_t address = <uintptr_t><PyObject*>value
    return &known[(address >> 4 ^ address >> 16) & (ENTRIES - 1)]


cdef void remember(object value, int64_t units) noexcept:
    cdef Known* it = place_of(value)
    keep(&it.value, value)
    it.units = units


cdef void keep(PyObject** place, object it) noexcept:
    cdef PyObject* before = place[0]
    Py_INCREF(it)
    place[0] = <PyObject*>it
    Py_XDECREF(before)
