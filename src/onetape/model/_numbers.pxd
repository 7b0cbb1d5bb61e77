from libc.stdint cimport int64_t

cdef bint units_of(object value, int64_t* units) noexcept
