# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, binding=False
"""The order book of order_book.py, compiled: levels go from the wire's bytes into sorted arrays of integers.

It reads only what it knows by a strict grammar: plain decimals in the four shapes as the venues write them. All else,
be it legal JSON, an exponent or rubbish, is read by ``Levels.read``: so both books accept and refuse the same, with the
same words. Prices are integers at one scale for both sides; where they do not fit 64 bits the reference takes over.

Best levels stand last in their array: what comes and goes is mostly near the top, and moves little.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_FromStringAndSize
from libc.stdint cimport INT64_MAX, int8_t, int64_t, uint64_t
from libc.stdlib cimport llabs as abs, qsort
from libc.string cimport memcmp, memmove

from array import array
from decimal import Decimal

from onetape.book.order_book import OrderBook as Reference
from onetape.book.order_book import Window
from onetape.book.order_book import merged as merged_slowly
from onetape.model.levels import BadLevels, Levels, Shape

cdef extern from *:
    """
    /* Eight digits at once; `shift`: how many there are up to the last that is not 0. 0 if one of them is no digit.
       https://kholdstare.github.io/technical/2020/05/26/faster-integer-parsing.html */
    static inline int eight_digits(const char *p, uint64_t *value, int *shift) {
    #if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        uint64_t bytes;
        memcpy(&bytes, p, 8);
        if (((bytes & 0xF0F0F0F0F0F0F0F0ull) | (((bytes + 0x0606060606060606ull) & 0xF0F0F0F0F0F0F0F0ull) >> 4))
            != 0x3333333333333333ull)
            return 0;
        bytes &= 0x0F0F0F0F0F0F0F0Full;
        *shift = bytes ? 8 - (__builtin_clzll(bytes) >> 3) : 0;
        bytes = (bytes * 10 + (bytes >> 8)) & 0x00FF00FF00FF00FFull;
        bytes = (bytes * 100 + (bytes >> 16)) & 0x0000FFFF0000FFFFull;
        *value = (bytes * 10000 + (bytes >> 32)) & 0xFFFFFFFFull;
        return 1;
    #else
        return 0;
    #endif
    }
    """
    bint eight_digits(const char* p, uint64_t* value, int* shift) nogil

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef object PAIRS = Shape.PAIRS
cdef object PRICE_QTY = Shape.PRICE_QTY
cdef object TAGGED_TRIPLES = Shape.TAGGED_TRIPLES
cdef object TAGGED_OBJECTS = Shape.TAGGED_OBJECTS

DEF MAX_TELLING = 18  # digits of a number that an int64 always holds: model/numbers.py
DEF MAX_FRACTION = 18
DEF MAX_DIGITS = 28
DEF NEAR_TOP = 48  # levels that are looked at one by one, which costs less than the wrong guesses of halving
DEF MOST = 1 << 40  # levels; a venue's word for its depth may be any number
DEF LARGE = 65_536  # entries of a scratch that is not kept

cdef int64_t[19] TEN
cdef int _power
TEN[0] = 1
for _power in range(1, 19):
    TEN[_power] = TEN[_power - 1] * 10


# --- numbers ----------------------------------------------------------------------------------------------------------


cdef struct Number:
    int64_t telling  # the digits without the zeros that end a fraction; of a price, once its book's scale is known, there
    int8_t shift  # of those, behind the point
    int8_t written  # digits behind the point as they came; below zero: the exponent of a number like 1E+5
    int place  # in its message


cdef const char* read_number(const char* p, const char* end, Number* out) noexcept nogil:
    """Digits, with a fraction or without; gives the place behind, NULL for all that is not plain or is too long."""
    cdef const char* begin = p
    cdef uint64_t value = 0, telling, eight
    cdef int before = 0, behind = 0, shift = 0, digit
    if p == NULL:
        return NULL
    while p < end and 48 <= p[0] <= 57:
        value = value * 10 + <uint64_t>(p[0] - 48)
        before += value != 0
        if before > MAX_TELLING:
            return NULL
        p += 1
    if p == begin:
        return NULL
    telling = value
    if p < end and p[0] == b".":
        p += 1
        if end - p >= 8 and before <= 10 and eight_digits(p, &eight, &shift):  # as Binance writes all fractions
            behind = 8
            value = value * TEN[8] + eight
            telling = value // TEN[8 - shift]
            p += 8
        while p < end and 48 <= p[0] <= 57:
            digit = p[0] - 48
            behind += 1
            value = value * 10 + <uint64_t>digit  # wraps only behind the last digit that tells
            if digit:
                telling, shift = value, behind
            p += 1
            if behind > MAX_FRACTION:
                return NULL
        if not behind or before + shift > MAX_TELLING or before + behind > MAX_DIGITS:
            return NULL
    out.telling, out.shift, out.written = <int64_t>telling, <int8_t>shift, <int8_t>behind
    return p


cdef inline bint scaled(int64_t value, int shift, int64_t* out) noexcept nogil:
    """value * 10^shift; False if 64 bits do not hold it."""
    if shift > 18:
        out[0] = 0
        return value == 0
    if value > INT64_MAX // TEN[shift]:
        return False
    out[0] = value * TEN[shift]
    return True


cdef bint of_decimal(object value, Number* out) except -1:
    """A Decimal that was read before; False if it does not fit."""
    cdef tuple digits
    cdef int64_t telling = 0
    cdef int exponent, i, count
    negative, digits, power = value.as_tuple()
    if negative or not isinstance(power, int) or not -MAX_FRACTION <= power <= MAX_TELLING:
        return False
    exponent = power
    out.written = <int8_t>-exponent
    count = <int>len(digits)
    while count and exponent < 0 and digits[count - 1] == 0:
        count -= 1
        exponent += 1
    if count > MAX_TELLING:
        return False
    for i in range(count):
        telling = telling * 10 + <int>digits[i]
    out.shift = <int8_t>(-exponent if exponent < 0 and telling else 0)
    return scaled(telling, max(exponent, 0), &out.telling)


# --- levels of the wire -------------------------------------------------------------------------------------------------


cdef struct Entry:
    Number price
    Number size


cdef struct Scratch:
    Entry* entries
    Py_ssize_t count, room


cdef Scratch spare  # used again and again; whoever works takes it away, so that nobody else finds it


cdef void take(Scratch* out) noexcept:
    global spare
    out[0] = spare
    out.count = 0
    spare.entries, spare.room = NULL, 0


cdef void give_back(Scratch* it) noexcept:
    global spare
    if spare.entries == NULL and it.room <= LARGE:
        spare = it[0]
    else:
        PyMem_Free(it.entries)


cdef inline const char* skip(const char* p, const char* end, const char* text, Py_ssize_t length) noexcept nogil:
    return NULL if p == NULL or end - p < length or memcmp(p, text, length) != 0 else p + length


cdef const char* skip_string(const char* p, const char* end) noexcept nogil:
    """Over a string without escapes and beyond-ASCII, up to and with its closing quote; ``p`` stands in it."""
    while p != NULL and p < end and 32 <= p[0] <= 126 and p[0] != b"\\":
        if p[0] == b'"':
            return p + 1
        p += 1
    return NULL


cdef inline bint is_one_of(
    const char* word, Py_ssize_t length, const char* one, Py_ssize_t of_one, const char* other, Py_ssize_t of_other,
) noexcept nogil:
    return length == of_one and memcmp(word, one, length) == 0 or length == of_other and memcmp(word, other, length) == 0


cdef const char* read_pair(const char* p, const char* end, Entry* out) noexcept nogil:
    """["price","size"] and whatever strings follow."""
    p = skip(read_number(skip(p, end, b'["', 2), end, &out.price), end, b'","', 3)
    p = skip(read_number(p, end, &out.size), end, b'"', 1)
    while p != NULL and p < end and p[0] == b",":
        p = skip_string(skip(p, end, b',"', 2), end)
    return skip(p, end, b"]", 1)


cdef const char* read_price_qty(const char* p, const char* end, Entry* out) noexcept nogil:
    """{"price":1.0,"qty":2.0}"""
    p = json_number(skip(p, end, b'{"price":', 9), end, &out.price)
    p = json_number(skip(p, end, b',"qty":', 7), end, &out.size)
    return skip(p, end, b"}", 1)


cdef const char* json_number(const char* p, const char* end, Number* out) noexcept nogil:
    """JSON knows no zero before another digit."""
    if p == NULL or (end - p >= 2 and p[0] == b"0" and 48 <= p[1] <= 57):
        return NULL
    return read_number(p, end, out)


cdef const char* read_triple(
    const char* p, const char* end, const char* tag, Py_ssize_t length, Entry* out, bint* mine,
) noexcept nogil:
    """["buy","price","size"]"""
    p = skip(p, end, b'["', 2)
    cdef const char* word = p
    p = skip_string(p, end)
    if p == NULL:
        return NULL
    if not is_one_of(word, p - word - 1, b"buy", 3, b"sell", 4):
        return NULL
    mine[0] = p - word - 1 == length and memcmp(word, tag, length) == 0
    if mine[0]:
        p = skip(read_number(skip(p, end, b',"', 2), end, &out.price), end, b'","', 3)
        return skip(read_number(p, end, &out.size), end, b'"]', 2)
    p = skip_string(skip(p, end, b',"', 2), end)
    return skip(skip_string(skip(p, end, b',"', 2), end), end, b"]", 1)


cdef const char* read_object(
    const char* p, const char* end, const char* tag, Py_ssize_t length, Entry* out, bint* mine,
) noexcept nogil:
    """{"side":"bid","price_level":"1.0","new_quantity":"2.0"} in any order, with other strings among them."""
    cdef const char* key
    cdef const char* value
    cdef const char* price = NULL
    cdef const char* size = NULL
    cdef Py_ssize_t long_
    cdef bint sided = False
    p = skip(p, end, b"{", 1)
    while True:
        key = skip(p, end, b'"', 1)
        p = skip_string(key, end)
        if p == NULL:
            return NULL
        long_ = p - key - 1
        value = skip(p, end, b':"', 2)
        p = skip_string(value, end)
        if p == NULL:
            return NULL
        if long_ == 4 and memcmp(key, b"side", 4) == 0 and not sided:
            sided = is_one_of(value, p - value - 1, b"bid", 3, b"offer", 5)
            if not sided:
                return NULL
            mine[0] = p - value - 1 == length and memcmp(value, tag, length) == 0
        elif long_ == 11 and memcmp(key, b"price_level", 11) == 0 and price == NULL:
            price = value
        elif long_ == 12 and memcmp(key, b"new_quantity", 12) == 0 and size == NULL:
            size = value
        elif (
            long_ == 4 and memcmp(key, b"side", 4) == 0 or long_ == 11 and memcmp(key, b"price_level", 11) == 0
            or long_ == 12 and memcmp(key, b"new_quantity", 12) == 0
        ):
            return NULL  # twice: the reader knows which one counts
        if p < end and p[0] == b"}":
            break
        p = skip(p, end, b",", 1)
    if not sided or price == NULL or size == NULL:
        return NULL
    if mine[0]:
        price = skip(read_number(price, end, &out.price), end, b'"', 1)
        size = skip(read_number(size, end, &out.size), end, b'"', 1)
        if price == NULL or size == NULL:
            return NULL
    return p + 1


cdef int more(Scratch* scratch) except -1 nogil:
    cdef Entry* entries
    cdef Py_ssize_t room = max(2 * scratch.room, 64)
    with gil:
        entries = <Entry*>PyMem_Realloc(scratch.entries, room * sizeof(Entry))
        if entries == NULL:
            raise MemoryError
    scratch.entries, scratch.room = entries, room
    return 0


cdef bint read_all(
    const char* p, const char* end, int shape, const char* tag, Py_ssize_t length, Scratch* scratch,
) except -1 nogil:
    """Appends the levels of a JSON array; False where the grammar does not know what comes."""
    cdef bint mine = True
    cdef Entry* entry
    p = skip(p, end, b"[", 1)
    if p != NULL and end - p == 1 and p[0] == b"]":
        return True
    while True:
        if scratch.count == scratch.room:
            more(scratch)
        entry = scratch.entries + scratch.count
        if shape == 0:
            p = read_pair(p, end, entry)
        elif shape == 1:
            p = read_price_qty(p, end, entry)
        elif shape == 2:
            p = read_triple(p, end, tag, length, entry, &mine)
        else:
            p = read_object(p, end, tag, length, entry, &mine)
        if p == NULL or p >= end:
            return False
        scratch.count += mine
        if p[0] == b"]":
            return p + 1 == end
        if p[0] != b",":
            return False
        p += 1


cdef bint read_raw(object raw, object shape, object tag, Scratch* scratch) except -1:
    cdef Py_buffer view
    cdef Py_ssize_t length
    cdef const char* word = PyUnicode_AsUTF8AndSize(tag, &length)
    cdef int number = 0 if shape is PAIRS else 1 if shape is PRICE_QTY else 2 if shape is TAGGED_TRIPLES else 3
    PyObject_GetBuffer(raw, &view, PyBUF_SIMPLE)
    try:
        return read_all(<const char*>view.buf, <const char*>view.buf + view.len, number, word, length, scratch)
    finally:
        PyBuffer_Release(&view)


cdef bint read_levels(object levels, Scratch* scratch) except -1:
    """Appends them; False if one does not fit 64 bits. Raises BadLevels."""
    cdef Py_ssize_t count = scratch.count
    raw = levels.raw
    if raw is not None:
        if read_raw(raw, levels.shape, levels.tag, scratch):
            return True
        scratch.count = count
    for price, size in levels.read():
        if scratch.count == scratch.room:
            more(scratch)
        if not of_decimal(price, &scratch.entries[scratch.count].price):
            return False
        if not of_decimal(size, &scratch.entries[scratch.count].size):
            return False
        scratch.count += 1
    return True


# --- Decimals -----------------------------------------------------------------------------------------------------------


cdef struct Known:
    int64_t digits
    int8_t zeros, exponent
    PyObject* value


DEF KNOWN = 8_192
cdef Known[KNOWN] known  # the same prices and sizes come again and again: finding one is ten times as fast as making it


cdef object decimal(int64_t digits, int zeros, int exponent):
    """digits * 10^zeros, written so, * 10^exponent."""
    cdef uint64_t mixed = (<uint64_t>digits * 64 + <uint64_t>(zeros - exponent)) * <uint64_t>0x9E3779B97F4A7C15
    cdef Known* it = &known[mixed >> 51]
    if it.value != NULL and it.digits == digits and it.zeros == zeros and it.exponent == exponent:
        return <object>it.value
    cdef char[64] text
    cdef int begin = 40, end = 40
    cdef uint64_t rest = <uint64_t>digits
    while True:
        begin -= 1
        text[begin] = <char>(48 + rest % 10)
        rest //= 10
        if not rest:
            break
    while zeros > 0 and end < 60 and digits:
        text[end] = b"0"
        end += 1
        zeros -= 1
    if exponent:
        value = Decimal(PyUnicode_FromStringAndSize(text + begin, end - begin) + f"E{exponent}")
    else:
        value = Decimal(PyUnicode_FromStringAndSize(text + begin, end - begin))
    Py_INCREF(value)
    Py_XDECREF(it.value)
    it.value, it.digits, it.zeros, it.exponent = <PyObject*>value, digits, <int8_t>(end - 40), <int8_t>exponent
    return value


cdef double as_float(int64_t digits, int shift):
    """digits / 10^shift, rounded once."""
    if digits <= 1 << 53:
        return <double>digits / <double>TEN[shift]
    return float(decimal(digits, 0, -shift))


# --- one side -----------------------------------------------------------------------------------------------------------


cdef struct Level:
    int64_t key  # the price at the book's scale; of asks below zero, so that the best is the greatest on both sides
    int64_t size
    int8_t price_written
    int8_t size_shift
    int8_t size_written


cdef struct Side:
    Level* levels
    Py_ssize_t first, count, room  # in use: [first, first + count)
    int64_t edge
    bint edged
    int sign
    Py_ssize_t orphans


cdef Py_ssize_t place_of(const Side* side, int64_t key) noexcept nogil:
    """Of the first level that is not below ``key``, counted from ``first``."""
    cdef const Level* levels = side.levels + side.first
    cdef Py_ssize_t low = 0, high = side.count, middle
    cdef Py_ssize_t near = high - NEAR_TOP if high > NEAR_TOP else 0
    while high > near and levels[high - 1].key >= key:
        high -= 1
    if high > near:
        return high
    while low < high:
        middle = (low + high) // 2
        if levels[middle].key < key:
            low = middle + 1
        else:
            high = middle
    return low


cdef int make_room(Side* side) except -1:
    cdef Level* levels
    cdef Py_ssize_t room = side.room
    if side.first > side.count // 4:
        memmove(side.levels, side.levels + side.first, side.count * sizeof(Level))
        side.first = 0
        return 0
    room += room // 4 if room > 64 else 16  # a quarter: a book is to cost no more than 32 bytes a level
    levels = <Level*>PyMem_Realloc(side.levels, room * sizeof(Level))
    if levels == NULL:
        raise MemoryError
    side.levels, side.room = levels, room
    return 0


cdef int put(Side* side, int64_t key, const Entry* it) except -1:
    """A size of 0 removes the level."""
    cdef Py_ssize_t place = place_of(side, key)
    cdef Level* level = side.levels + side.first + place
    cdef bint there = place < side.count and level.key == key
    if it.size.telling == 0:
        if there:
            memmove(level, level + 1, (side.count - place - 1) * sizeof(Level))
            side.count -= 1
        else:
            side.orphans += 1
        return 0
    if not there:
        if side.first + side.count == side.room:
            make_room(side)
            level = side.levels + side.first + place
        memmove(level + 1, level, (side.count - place) * sizeof(Level))
        side.count += 1
        level.key, level.price_written = key, it.price.written
    level.size, level.size_shift, level.size_written = it.size.telling, it.size.shift, it.size.written
    return 0


cdef void shrink(Side* side) noexcept:
    """A book that was far longer once does not keep the room."""
    cdef Level* levels
    if side.room <= 4 * side.count + 1_024:
        return
    memmove(side.levels, side.levels + side.first, side.count * sizeof(Level))
    side.first = 0
    levels = <Level*>PyMem_Realloc(side.levels, (side.count + side.count // 8 + 16) * sizeof(Level))
    if levels != NULL:
        side.levels, side.room = levels, side.count + side.count // 8 + 16


cdef void drop(Side* side, Py_ssize_t worst) noexcept nogil:
    side.first += worst
    side.count -= worst


cdef Py_ssize_t inside(const Side* side) noexcept nogil:
    """Levels inside the edge."""
    return side.count - place_of(side, side.edge) if side.edged else side.count


cdef int fill(Side* side, Entry* entries, Py_ssize_t count, Py_ssize_t cut_at) except -1:
    """A snapshot, in whatever order it stands; of a price that comes twice the first digits and the last size."""
    cdef Py_ssize_t i, kept = 0
    cdef Entry* it
    cdef bint falling = True, rising = True
    cdef Level* level
    for i in range(count):
        if entries[i].size.telling:
            it = entries + kept
            it[0] = entries[i]
            it.price.telling *= side.sign
            it.price.place = <int>kept
            if kept:
                falling = falling and it.price.telling < (it - 1).price.telling
                rising = rising and it.price.telling > (it - 1).price.telling
            kept += 1
    if not falling and not rising:
        qsort(entries, kept, sizeof(Entry), by_key)
    if kept > side.room or side.room > 2 * kept + 64:
        level = <Level*>PyMem_Realloc(side.levels, (kept + kept // 8 + 16) * sizeof(Level))
        if level == NULL:
            raise MemoryError
        side.levels, side.room = level, kept + kept // 8 + 16
    side.first = side.count = 0
    for i in range(kept):
        it = entries + (kept - 1 - i if falling else i)
        level = side.levels + side.count
        if not side.count or (level - 1).key != it.price.telling:
            level.key, level.price_written = it.price.telling, it.price.written
            side.count += 1
        else:
            level -= 1
        level.size, level.size_shift, level.size_written = it.size.telling, it.size.shift, it.size.written
    side.edged = cut_at and side.count >= cut_at
    if side.edged:
        side.edge = side.levels[0].key
    return 0


cdef int by_key(const void* a, const void* b) noexcept nogil:
    cdef const Number* one = &(<const Entry*>a).price
    cdef const Number* other = &(<const Entry*>b).price
    if one.telling != other.telling:
        return 1 if one.telling > other.telling else -1
    return 1 if one.place > other.place else -1


cdef bint fits_finer(const Side* side, int by) noexcept nogil:
    cdef int64_t _, worst, best
    if side.edged and not scaled(abs(side.edge), by, &_):
        return False
    if not side.count:
        return True
    worst, best = side.levels[side.first].key, side.levels[side.first + side.count - 1].key
    return scaled(max(abs(worst), abs(best)), by, &_)


cdef void make_finer(Side* side, int by) noexcept nogil:
    cdef Py_ssize_t i
    if side.edged:
        side.edge *= TEN[by]
    for i in range(side.first, side.first + side.count):
        side.levels[i].key *= TEN[by]


cdef int scale_of(const Scratch* scratch, int least) noexcept nogil:
    """Digits behind the point that all its prices have room for."""
    cdef Py_ssize_t i
    for i in range(scratch.count):
        least = max(least, scratch.entries[i].price.shift)
    return least


cdef bint scale_prices(Scratch* scratch, int scale) noexcept nogil:
    """False if one does not fit 64 bits."""
    cdef Py_ssize_t i
    cdef Number* it
    for i in range(scratch.count):
        it = &scratch.entries[i].price
        if not scaled(it.telling, scale - it.shift, &it.telling):
            return False
    return True


cdef void cut_to(Side* side, Py_ssize_t keep, bint resends) noexcept nogil:
    """Of a venue that resends what comes back the best are held; else what goes is gone, and the edge moves in."""
    if side.edged and not resends:
        drop(side, place_of(side, side.edge))
    if side.count > keep:
        drop(side, side.count - keep)
        if not resends:
            side.edge, side.edged = side.levels[side.first].key, True


cdef Py_ssize_t depth_of(depth) except -1:
    """Any number that somebody may say. Raises ValueError: it is below zero."""
    if depth < 0:
        raise ValueError(f"a depth of {depth}")
    return min(depth, MOST)


cdef list read_best(const Side* side, depth, int scale):
    """Read from a copy: whoever makes Python objects lets others run, a finalizer or another thread, who may write."""
    cdef Py_ssize_t i, most = depth_of(depth)
    cdef Shown shown
    cdef list out = []
    show(side, most, scale, &shown)
    try:
        for i in range(shown.count):
            out.append(read_level(shown.levels[i], shown.sign, scale))
        return out
    finally:
        PyMem_Free(shown.levels)


cdef struct Shown:
    Level* levels  # best first
    Py_ssize_t count, taken
    int sign, scale
    int64_t key  # of the first that is not taken, at the scale of all


cdef int show(const Side* side, Py_ssize_t depth, int scale, Shown* out) except -1:
    """A copy of the best levels inside the edge, to be freed by who asked."""
    cdef Py_ssize_t i, count = inside(side)
    count = min(depth or count, count)
    out.levels = <Level*>PyMem_Malloc(max(count, 1) * sizeof(Level))
    if out.levels == NULL:
        raise MemoryError
    out.count, out.taken, out.sign, out.scale = count, 0, side.sign, scale
    for i in range(count):
        out.levels[i] = (best_of(side) - i)[0]
    return 0


cdef object read_level(Level it, int sign, int scale):
    cdef int64_t price = it.key * sign
    cdef int written = it.price_written
    if written >= scale:
        number = decimal(price, written - scale, -written)
    else:
        number = decimal(price // TEN[min(scale - written, 18)], 0, -written)
    if it.size_written >= it.size_shift:
        return number, decimal(it.size, it.size_written - it.size_shift, -it.size_written)
    return number, decimal(it.size // TEN[it.size_shift - it.size_written], 0, -it.size_written)


# --- the book -----------------------------------------------------------------------------------------------------------


cdef class OrderBook:
    """As ``onetape.book.order_book.OrderBook``, which says what everything means."""

    cdef object __weakref__
    cdef public object window
    cdef Py_ssize_t _keep, _required_bids, _required_asks
    cdef bint _resends
    cdef int _scale  # digits behind the point that all prices here have room for
    cdef Side _bids, _asks
    cdef object _bid, _ask  # the best levels as Python last read them, and what they were made of
    cdef Level _bid_was, _ask_was
    cdef object _wide  # the reference, where the prices do not fit

    def __cinit__(self, *_arguments, **_named):
        self._bids.sign, self._asks.sign = 1, -1

    def __init__(self, window=Window()):
        self.window = window

    def __dealloc__(self):
        PyMem_Free(self._bids.levels)
        PyMem_Free(self._asks.levels)

    def __sizeof__(self):
        return sizeof(OrderBook) + (self._bids.room + self._asks.room) * sizeof(Level)

    def replace(self, bids, asks, cut_at=0):
        """Takes a snapshot, which the venue cut at ``cut_at`` levels per side (0: not at all). Raises BadLevels."""
        if cut_at < 0:
            raise BadLevels(f"cut at {cut_at} levels")
        cdef Scratch scratch
        cdef Py_ssize_t split
        cdef int scale
        take(&scratch)
        try:
            fit = read_levels(bids, &scratch)
            split = scratch.count
            fit = read_levels(asks, &scratch) and fit
            scale = scale_of(&scratch, 0)
            if not fit or not scale_prices(&scratch, scale):
                self._widen()
                self._wide.replace(bids, asks, cut_at)
                return
            keep, resends = max(min(self.window.keep(cut_at), MOST), 0), self.window.resends
            edge_at = 0 if resends else min(cut_at, MOST)
            if self._wide is not None:
                self._bids.orphans, self._asks.orphans, self._wide = self._wide.orphans, 0, None
            self._scale, self._keep, self._resends = scale, keep, resends
            self._bid = self._ask = None  # they were read at another scale
            fill(&self._bids, scratch.entries, split, edge_at)
            fill(&self._asks, scratch.entries + split, scratch.count - split, edge_at)
            self._cut()
        finally:
            give_back(&scratch)

    def apply(self, bids, asks):
        """Takes the changes of a delta, in their order. Raises BadLevels. True: not crossed, and nothing lacks."""
        cdef Scratch scratch
        cdef Py_ssize_t i, split
        cdef Entry* it
        if self._wide is not None:
            return self._wide.apply(bids, asks)
        take(&scratch)
        try:
            fit = read_levels(bids, &scratch)
            split = scratch.count
            fit = read_levels(asks, &scratch) and fit
            if not fit or not self._make_finer(scale_of(&scratch, 0)) or not scale_prices(&scratch, self._scale):
                self._widen()
                return self._wide.apply(bids, asks)
            for i in range(split):
                it = scratch.entries + i
                put(&self._bids, it.price.telling, it)
            for i in range(split, scratch.count):
                it = scratch.entries + i
                put(&self._asks, -it.price.telling, it)
            self._cut()
            return not self._crossed() and not self._lacks()
        finally:
            give_back(&scratch)

    cdef void _cut(self) noexcept:
        if self._keep:
            cut_to(&self._bids, self._keep, self._resends)
            cut_to(&self._asks, self._keep, self._resends)
        shrink(&self._bids)
        shrink(&self._asks)

    cdef bint _make_finer(self, int scale) noexcept:
        """False if a price that is here has no room for so many digits behind the point."""
        cdef int by = scale - self._scale
        if by <= 0:
            return True
        if not fits_finer(&self._bids, by) or not fits_finer(&self._asks, by):
            return False
        make_finer(&self._bids, by)
        make_finer(&self._asks, by)
        self._scale = scale
        self._bid = self._ask = None
        return True

    cdef _widen(self):
        if self._wide is None:
            wide = Reference(self.window)
            wide.required = self.required
            wide.take_over(self._keep, self._whole(&self._bids), self._whole(&self._asks), self.orphans)
            self._wide = wide

    cdef _whole(self, const Side* side):
        """All levels, best first, and the edge."""
        edge = decimal(side.edge * side.sign, 0, -self._scale) if side.edged else None
        return [read_level((best_of(side) - i)[0], side.sign, self._scale) for i in range(side.count)], edge

    def bids(self, depth=0):
        """Best first, up to ``depth`` (0: all), never beyond the edge of what is known."""
        return self._wide.bids(depth) if self._wide is not None else read_best(&self._bids, depth, self._scale)

    def asks(self, depth=0):
        """Best first, up to ``depth`` (0: all), never beyond the edge of what is known."""
        return self._wide.asks(depth) if self._wide is not None else read_best(&self._asks, depth, self._scale)

    @property
    def best_bid(self):
        """None: there is none inside the edge."""
        if self._wide is not None:
            return self._wide.best_bid
        if not inside(&self._bids):
            return None
        if self._bid is None or not same(best_of(&self._bids), &self._bid_was):
            return self._read_bid()
        return self._bid

    @property
    def best_ask(self):
        """None: there is none inside the edge."""
        if self._wide is not None:
            return self._wide.best_ask
        if not inside(&self._asks):
            return None
        if self._ask is None or not same(best_of(&self._asks), &self._ask_was):
            return self._read_ask()
        return self._ask

    cdef object _read_bid(self):
        cdef Level it = best_of(&self._bids)[0]
        level = read_level(it, 1, self._scale)
        self._bid, self._bid_was = level, it
        return level

    cdef object _read_ask(self):
        cdef Level it = best_of(&self._asks)[0]
        level = read_level(it, -1, self._scale)
        self._ask, self._ask_was = level, it
        return level

    def float64(self, depth=0):
        """Bid prices, bid sizes, ask prices, ask sizes, best first, as buffers of float64."""
        if self._wide is not None:
            return self._wide.float64(depth)
        most = depth_of(depth)
        return (*floats(&self._bids, most, self._scale), *floats(&self._asks, most, self._scale))

    def digits(self, depth, behind_price=0, behind_size=0):
        """Of the best bids and asks, price and size of each one after the other, as venues sum them up.

        Without point and leading zeros, with so many digits behind the point, or as many as the finest of them has.
        """
        if self._wide is not None:
            return self._wide.digits(depth, behind_price, behind_size)
        cdef Py_ssize_t most = depth_of(depth)
        cdef int price = 0, size = 0
        if not 0 <= behind_price <= MAX_DIGITS or not 0 <= behind_size <= MAX_DIGITS:
            raise ValueError(f"{behind_price} and {behind_size} digits behind the point")
        price, size = behind_price, behind_size
        widen(&self._bids, most, &price, &size)
        widen(&self._asks, most, &price, &size)
        return (
            digits_of(&self._bids, most, self._scale, price, size),
            digits_of(&self._asks, most, self._scale, price, size),
        )

    @property
    def crossed(self):
        """The best bid is at or above the best ask."""
        return self._wide.crossed if self._wide is not None else bool(self._crossed())

    cdef bint _crossed(self) noexcept:
        return self._bids.count and self._asks.count and best_of(&self._bids).key + best_of(&self._asks).key >= 0

    @property
    def held(self):
        """Number of levels (bids, asks) in memory, those beyond the edge included."""
        return self._wide.held if self._wide is not None else (self._bids.count, self._asks.count)

    @property
    def known(self):
        """Number of levels (bids, asks) inside the edge; None where there is no edge: all are known."""
        if self._wide is not None:
            return self._wide.known
        return (
            inside(&self._bids) if self._bids.edged else None, inside(&self._asks) if self._asks.edged else None,
        )

    @property
    def lacks(self):
        """Inside a known edge there are fewer levels than required."""
        return self._wide.lacks if self._wide is not None else bool(self._lacks())

    cdef bint _lacks(self) noexcept:
        return (
            self._bids.edged and inside(&self._bids) < self._required_bids
            or self._asks.edged and inside(&self._asks) < self._required_asks
        )

    @property
    def required(self):
        """Levels (bids, asks) that have to stay inside the known edge."""
        return self._required_bids, self._required_asks

    @required.setter
    def required(self, levels):
        self._required_bids, self._required_asks = levels
        if self._wide is not None:
            self._wide.required = levels

    @property
    def orphans(self):
        """Removals of levels that were not there, since the book began."""
        return self._wide.orphans if self._wide is not None else self._bids.orphans + self._asks.orphans


def merged(books, depth=0):
    """The bids and the asks of several books as one, best first, up to ``depth`` levels (0: all) of each side.

    Levels of one price stay apart, in the order of the books.
    """
    cdef int scale = 0
    cdef OrderBook book
    cdef Py_ssize_t most = depth_of(depth)
    cdef list all_ = list(books)
    for one in all_:
        if not isinstance(one, OrderBook):
            return merged_slowly(all_, depth)
        scale = max(scale, (<OrderBook>one)._scale)
    for one in all_:
        book = <OrderBook>one
        if book._wide is not None or not (
            fits_finer(&book._bids, scale - book._scale) and fits_finer(&book._asks, scale - book._scale)
        ):
            return merged_slowly(all_, depth)
    return merge_side(all_, most, scale, True), merge_side(all_, most, scale, False)


cdef list merge_side(list books, Py_ssize_t depth, int scale, bint bids):
    cdef Py_ssize_t count = len(books), i, best, left = 0
    cdef OrderBook book
    cdef Shown* shown = <Shown*>PyMem_Malloc(max(count, 1) * sizeof(Shown))
    cdef list out = []
    if shown == NULL:
        raise MemoryError
    for i in range(count):
        shown[i].levels = NULL
    try:
        for i in range(count):
            book = <OrderBook>books[i]
            show(&book._bids if bids else &book._asks, depth, book._scale, &shown[i])
            look(&shown[i], scale)
            left += shown[i].count
        left = min(depth or left, left)
        while left > 0:
            best = -1
            for i in range(count):
                if shown[i].taken < shown[i].count and (best < 0 or shown[i].key > shown[best].key):
                    best = i
            out.append((*read_level(shown[best].levels[shown[best].taken], shown[best].sign, shown[best].scale), best))
            shown[best].taken += 1
            look(&shown[best], scale)
            left -= 1
        return out
    finally:
        for i in range(count):
            PyMem_Free(shown[i].levels)
        PyMem_Free(shown)


cdef void look(Shown* shown, int scale) noexcept nogil:
    if shown.taken < shown.count:
        shown.key = shown.levels[shown.taken].key * TEN[scale - shown.scale]


cdef inline const Level* best_of(const Side* side) noexcept nogil:
    return side.levels + side.first + side.count - 1


cdef inline bint same(const Level* one, const Level* other) noexcept nogil:
    return (
        one.key == other.key and one.size == other.size and one.price_written == other.price_written
        and one.size_shift == other.size_shift and one.size_written == other.size_written
    )


cdef void widen(const Side* side, Py_ssize_t depth, int* behind_price, int* behind_size) noexcept nogil:
    cdef Py_ssize_t i, count = inside(side)
    cdef const Level* it
    for i in range(min(depth or count, count)):
        it = best_of(side) - i
        behind_price[0] = max(behind_price[0], it.price_written)
        behind_size[0] = max(behind_size[0], it.size_written)


cdef bytes digits_of(const Side* side, Py_ssize_t depth, int scale, int behind_price, int behind_size):
    cdef Py_ssize_t i, count = inside(side)
    cdef const Level* it
    count = min(depth or count, count)
    # An int64 has 19 digits, and no number has more than 18 behind the point, or is asked for with more than these.
    cdef char* text = <char*>PyMem_Malloc(count * (2 * 19 + behind_price + behind_size) + 1)
    cdef char* p = text
    if text == NULL:
        raise MemoryError
    try:
        for i in range(count):
            it = best_of(side) - i
            p = print_digits(p, it.key * side.sign, behind_price - scale)
            p = print_digits(p, it.size, behind_size - it.size_shift)
        return text[: p - text]
    finally:
        PyMem_Free(text)


cdef char* print_digits(char* p, int64_t number, int zeros) noexcept nogil:
    """With ``zeros`` more behind it, or as many fewer; nothing for 0."""
    cdef char[20] text
    cdef int length = 0
    while number and zeros < 0:
        number //= 10
        zeros += 1
    cdef bint is_zero = number == 0
    while number:
        text[length] = <char>(48 + number % 10)
        number //= 10
        length += 1
    while length:
        length -= 1
        p[0] = text[length]
        p += 1
    while zeros > 0 and not is_zero:
        p[0] = 48
        p += 1
        zeros -= 1
    return p


cdef tuple floats(const Side* side, Py_ssize_t depth, int scale):
    cdef Py_ssize_t i
    cdef Shown shown
    cdef double[::1] out
    show(side, depth, scale, &shown)
    try:
        prices, sizes = array("d", bytes(8 * shown.count)), array("d", bytes(8 * shown.count))
        if shown.count:
            out = prices
            for i in range(shown.count):
                out[i] = as_float(shown.levels[i].key * shown.sign, scale)
            out = sizes
            for i in range(shown.count):
                out[i] = as_float(shown.levels[i].size, shown.levels[i].size_shift)
        return prices, sizes
    finally:
        PyMem_Free(shown.levels)
