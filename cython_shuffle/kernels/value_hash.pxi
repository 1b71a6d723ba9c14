# The value hash, version 1. Defined on values, never on layouts; docs/shuffle.md has the definition in words.

cdef extern from *:
    """
    static inline uint64_t sabot_fold(uint64_t a, uint64_t b) {
        unsigned __int128 p = (unsigned __int128)a * b;
        return (uint64_t)p ^ (uint64_t)(p >> 64);
    }
    /* the finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014; constants: Stafford's variant 13): a bijection */
    static inline uint64_t sabot_mix(uint64_t x) {
        x ^= x >> 30; x *= UINT64_C(0xbf58476d1ce4e5b9);
        x ^= x >> 27; x *= UINT64_C(0x94d049bb133111eb);
        return x ^ (x >> 31);
    }
    /* |v| of four little-endian limbs divided by ten in place; the remainder is returned */
    static inline uint64_t sabot_div10(uint64_t *limb) {
        unsigned __int128 rest = 0;
        for (int i = 3; i >= 0; i--) {
            unsigned __int128 part = (rest << 64) | limb[i];
            limb[i] = (uint64_t)(part / 10);
            rest = part % 10;
        }
        return (uint64_t)rest;
    }
    static inline void sabot_mul10(uint64_t *limb) {
        unsigned __int128 carry = 0;
        for (int i = 0; i < 4; i++) {
            carry += (unsigned __int128)limb[i] * 10;
            limb[i] = (uint64_t)carry;
            carry >>= 64;
        }
    }
    static inline void sabot_negate(uint64_t *limb) {
        unsigned __int128 carry = 1;
        for (int i = 0; i < 4; i++) {
            carry += (uint64_t)~limb[i];
            limb[i] = (uint64_t)carry;
            carry >>= 64;
        }
    }
    static inline double sabot_half(uint16_t h) {
        int exponent = (h >> 10) & 31, fraction = h & 1023;
        double v;
        if (exponent == 31) v = fraction ? __builtin_nan("") : __builtin_inf();
        else if (exponent == 0) v = fraction * 0x1p-24;
        else v = (1024 + fraction) * 0x1p-25 * (double)(1ULL << exponent);
        return h & 0x8000 ? -v : v;
    }
    """
    uint64_t sabot_fold(uint64_t a, uint64_t b) noexcept nogil
    uint64_t sabot_mix(uint64_t x) noexcept nogil
    uint64_t sabot_div10(uint64_t* limb) noexcept nogil
    void sabot_mul10(uint64_t* limb) noexcept nogil
    void sabot_negate(uint64_t* limb) noexcept nogil
    double sabot_half(uint16_t h) noexcept nogil

HASH_VERSION = 1

cdef uint64_t GAMMA = 0x9E3779B97F4A7C15
cdef uint64_t SEED = 0x5AB07D0000000001
cdef uint64_t NULL_VALUE = 0xA5F152B5C2D3E14B
cdef uint64_t BYTES_SEED = 0xD6E8FEB86659FD93
cdef uint64_t BYTES_MUL = 0xE7037ED1A0B428DB
cdef uint64_t DECIMAL_SEED = 0x8CB92BA72F3D8DD7
cdef uint64_t LIST_SEED = 0xC2B2AE3D27D4EB4F
cdef uint64_t STRUCT_SEED = 0x165667B19E3779F9
cdef uint64_t NAN_BITS = 0x7FF8000000000000
cdef uint64_t DAY_NS = 86400000000000

cdef enum:
    OK = 0
    UNSUPPORTED = 1
    NO_MEMORY = 2

ctypedef fused integer:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused offset_type:
    int32_t
    int64_t


cdef inline uint64_t combine(uint64_t h, uint64_t value) noexcept nogil:
    return sabot_mix((h + GAMMA) ^ value)


cdef inline uint64_t float_value(double v) noexcept nogil:
    cdef uint64_t bits
    if v == 0.0:
        return 0
    if v != v:
        return NAN_BITS
    memcpy(&bits, &v, 8)
    return bits


cdef inline uint64_t bytes_value(const uint8_t* p, int64_t length, const uint8_t* readable_end) noexcept nogil:
    cdef uint64_t h = BYTES_SEED ^ (<uint64_t>length * GAMMA)
    cdef uint64_t word
    while length >= 8:
        memcpy(&word, p, 8)
        h = sabot_fold(h ^ word, BYTES_MUL)
        p += 8
        length -= 8
    if length > 0:
        if readable_end - p >= 8:
            memcpy(&word, p, 8)
            word &= (<uint64_t>1 << (8 * length)) - 1
        else:
            word = 0
            memcpy(&word, p, length)
        h = sabot_fold(h ^ word, BYTES_MUL)
    return h


cdef void int_values(const integer* src, int64_t n, uint64_t factor, uint64_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = <uint64_t>(<int64_t>src[i]) * factor


cdef void string_values(
    const offset_type* offsets, const uint8_t* data, int64_t n, uint64_t* out
) noexcept nogil:
    cdef int64_t i
    cdef const uint8_t* end
    if n == 0:
        return
    end = data + offsets[n]
    for i in range(n):
        out[i] = bytes_value(data + offsets[i], offsets[i + 1] - offsets[i], end)


cdef uint64_t decimal_value(const uint8_t* p, int width, int scale) noexcept nogil:
    cdef uint64_t limb[4]
    cdef uint64_t kept[4]
    cdef int64_t small
    cdef int32_t tiny
    cdef uint64_t fill, h
    cdef int i
    cdef bint negative
    if width == 4:
        memcpy(&tiny, p, 4)
        limb[0] = <uint64_t>(<int64_t>tiny)
        width = 8
    else:
        memcpy(limb, p, width)
    fill = <uint64_t>((<int64_t>limb[width // 8 - 1]) >> 63)
    for i in range(width // 8, 4):
        limb[i] = fill
    fill = <uint64_t>((<int64_t>limb[0]) >> 63)
    if scale >= 0 and limb[1] == fill and limb[2] == fill and limb[3] == fill:
        small = <int64_t>limb[0]
        while scale > 0 and small % 10 == 0:
            small = small // 10
            scale -= 1
        if scale == 0:
            return <uint64_t>small
        limb[0] = <uint64_t>small
        fill = <uint64_t>(small >> 63)
        limb[1] = limb[2] = limb[3] = fill
    else:
        negative = (<int64_t>limb[3]) < 0
        if negative:
            sabot_negate(limb)
        while scale < 0:
            sabot_mul10(limb)
            scale += 1
        while scale > 0:
            memcpy(kept, limb, 32)
            if sabot_div10(limb) != 0:
                memcpy(limb, kept, 32)
                break
            scale -= 1
        if scale == 0 and limb[1] == 0 and limb[2] == 0 and limb[3] == 0:
            if not negative or limb[0] <= <uint64_t>1 << 63:
                return <uint64_t>0 - limb[0] if negative else limb[0]
        if negative:
            sabot_negate(limb)
    h = DECIMAL_SEED + <uint64_t>scale
    for i in range(4):
        h = combine(h, limb[i])
    return h


cdef uint64_t unit_ns(char unit) noexcept nogil:
    if unit == c's':
        return 1000000000
    if unit == c'm':
        return 1000000
    if unit == c'u':
        return 1000
    return 1


cdef int temporal_values(const char* f, const void* data, int64_t first, int64_t n, uint64_t* out) noexcept nogil:
    # everything in nanoseconds modulo 2**64: equal moments of different units meet, no division
    cdef const int32_t* d32 = <const int32_t*>data
    cdef const int64_t* d64 = <const int64_t*>data
    cdef int64_t i, j
    if f[1] == c'd':
        if f[2] == c'D':
            int_values(d32 + first, n, DAY_NS, out)
        else:
            int_values(d64 + first, n, 1000000, out)
    elif f[1] == c't' and (f[2] == c's' or f[2] == c'm'):
        int_values(d32 + first, n, unit_ns(f[2]), out)
    elif f[1] == c't' or f[1] == c's' or f[1] == c'D':
        int_values(d64 + first, n, unit_ns(f[2]), out)
    elif f[1] == c'i' and f[2] == c'M':
        int_values(d32 + first, n, 30 * DAY_NS, out)
    elif f[1] == c'i' and f[2] == c'D':
        for i in range(n):
            j = 2 * (first + i)
            out[i] = <uint64_t>(<int64_t>d32[j]) * DAY_NS + <uint64_t>(<int64_t>d32[j + 1]) * 1000000
    elif f[1] == c'i' and f[2] == c'n':
        for i in range(n):
            j = first + i
            # a month is 30 days and a day 24 hours, as in PostgreSQL's comparison of intervals
            out[i] = (
                (<uint64_t>(<int64_t>d32[4 * j]) * 30 + <uint64_t>(<int64_t>d32[4 * j + 1])) * DAY_NS
                + <uint64_t>d64[2 * j + 1]
            )
    else:
        return UNSUPPORTED
    return OK


cdef int flat_values(
    const ArrowSchema* s, const ArrowArray* a, int64_t first, int64_t n, uint64_t* out
) noexcept nogil:
    cdef char c = s.format[0]
    cdef const void* data = a.buffers[1] if a.n_buffers > 1 else NULL
    cdef int64_t i
    cdef int width, scale
    cdef const char* comma
    cdef const uint8_t* view
    cdef int32_t view_length, view_buffer, view_offset
    if c == c'n':
        for i in range(n):
            out[i] = NULL_VALUE
        return OK
    if c == c'l' or c == c'L':
        int_values(<const uint64_t*>data + first, n, 1, out)
    elif c == c'i':
        int_values(<const int32_t*>data + first, n, 1, out)
    elif c == c'I':
        int_values(<const uint32_t*>data + first, n, 1, out)
    elif c == c's':
        int_values(<const int16_t*>data + first, n, 1, out)
    elif c == c'S':
        int_values(<const uint16_t*>data + first, n, 1, out)
    elif c == c'c':
        int_values(<const int8_t*>data + first, n, 1, out)
    elif c == c'C':
        int_values(<const uint8_t*>data + first, n, 1, out)
    elif c == c'b':
        for i in range(n):
            out[i] = bit_at(<const uint8_t*>data, first + i)
    elif c == c'g':
        for i in range(n):
            out[i] = float_value((<const double*>data)[first + i])
    elif c == c'f':
        for i in range(n):
            out[i] = float_value((<const float*>data)[first + i])
    elif c == c'e':
        for i in range(n):
            out[i] = float_value(sabot_half((<const uint16_t*>data)[first + i]))
    elif c == c'u' or c == c'z':
        string_values(<const int32_t*>data + first, <const uint8_t*>a.buffers[2], n, out)
    elif c == c'U' or c == c'Z':
        string_values(<const int64_t*>data + first, <const uint8_t*>a.buffers[2], n, out)
    elif c == c'v':
        for i in range(n):
            view = <const uint8_t*>data + 16 * (first + i)
            memcpy(&view_length, view, 4)
            if view_length <= 12:
                out[i] = bytes_value(view + 4, view_length, view + 16)
            else:
                memcpy(&view_buffer, view + 8, 4)
                memcpy(&view_offset, view + 12, 4)
                view = <const uint8_t*>a.buffers[2 + view_buffer] + view_offset
                out[i] = bytes_value(view, view_length, view + view_length)
    elif c == c'w':
        width = atoi(s.format + 2)
        for i in range(n):
            view = <const uint8_t*>data + width * (first + i)
            out[i] = bytes_value(view, width, view + width)
    elif c == c'd':
        comma = strchr(s.format, c',')
        scale = atoi(comma + 1)
        comma = strchr(comma + 1, c',')
        width = atoi(comma + 1) // 8 if comma != NULL else 16
        for i in range(n):
            out[i] = decimal_value(<const uint8_t*>data + width * (first + i), width, scale)
    elif c == c't':
        return temporal_values(s.format, data, first, n, out)
    else:
        return UNSUPPORTED
    return OK


cdef inline int64_t index_at(char f, const void* data, int64_t i) noexcept nogil:
    if f == c'i':
        return (<const int32_t*>data)[i]
    if f == c'l' or f == c'L':
        return (<const int64_t*>data)[i]
    if f == c'c':
        return (<const int8_t*>data)[i]
    if f == c'C':
        return (<const uint8_t*>data)[i]
    if f == c's':
        return (<const int16_t*>data)[i]
    if f == c'S':
        return (<const uint16_t*>data)[i]
    return (<const uint32_t*>data)[i]


cdef int dictionary_values(
    const ArrowSchema* s, const ArrowArray* a, int64_t first, int64_t n, uint64_t* out
) noexcept nogil:
    cdef int64_t size = a.dictionary.length
    cdef uint64_t* values = <uint64_t*>malloc(8 * (size + 1))
    cdef const uint8_t* valid = validity_of(a)
    cdef int64_t i
    cdef int status
    if values == NULL:
        return NO_MEMORY
    status = slot_values(s.dictionary, a.dictionary, 0, size, values)
    if status == OK:
        for i in range(n):
            if valid == NULL or bit_at(valid, first + i):
                out[i] = values[index_at(s.format[0], a.buffers[1], first + i)]
            else:
                out[i] = NULL_VALUE
    free(values)
    return status


cdef inline void list_bounds(
    const char* f, const ArrowArray* a, int64_t i, int64_t width, int64_t* start, int64_t* end
) noexcept nogil:
    cdef bint view = f[1] == c'v'
    cdef char kind = f[2] if view else f[1]
    if kind == c'w':
        start[0] = width * i
        end[0] = width * (i + 1)
    elif kind == c'L':
        start[0] = (<const int64_t*>a.buffers[1])[i]
        end[0] = start[0] + (<const int64_t*>a.buffers[2])[i] if view else (<const int64_t*>a.buffers[1])[i + 1]
    else:
        start[0] = (<const int32_t*>a.buffers[1])[i]
        end[0] = start[0] + (<const int32_t*>a.buffers[2])[i] if view else (<const int32_t*>a.buffers[1])[i + 1]


cdef int list_values(
    const ArrowSchema* s, const ArrowArray* a, int64_t first, int64_t n, uint64_t* out
) noexcept nogil:
    cdef int64_t low = 0, high = 0, start, end, i, j
    cdef int64_t width = atoi(s.format + 3) if s.format[1] == c'w' else 0
    cdef const uint8_t* valid = validity_of(a)
    cdef bint any_slot = False
    cdef uint64_t* values
    cdef uint64_t h
    cdef int status
    for i in range(first, first + n):
        if valid != NULL and not bit_at(valid, i):
            continue
        list_bounds(s.format, a, i, width, &start, &end)
        if end > start:
            low = start if not any_slot or start < low else low
            high = end if not any_slot or end > high else high
            any_slot = True
    values = <uint64_t*>malloc(8 * (high - low + 1))
    if values == NULL:
        return NO_MEMORY
    status = slot_values(s.children[0], a.children[0], low, high - low, values)
    if status == OK:
        for i in range(n):
            if valid != NULL and not bit_at(valid, first + i):
                out[i] = NULL_VALUE
                continue
            list_bounds(s.format, a, first + i, width, &start, &end)
            h = LIST_SEED + <uint64_t>(end - start)
            for j in range(start - low, end - low):
                h = combine(h, values[j])
            out[i] = h
    free(values)
    return status


cdef int struct_values(
    const ArrowSchema* s, const ArrowArray* a, int64_t first, int64_t n, uint64_t* out
) noexcept nogil:
    cdef const uint8_t* valid = validity_of(a)
    cdef uint64_t* values = <uint64_t*>malloc(8 * (n + 1))
    cdef int64_t i, k
    cdef int status = OK
    if values == NULL:
        return NO_MEMORY
    for i in range(n):
        out[i] = STRUCT_SEED
    for k in range(s.n_children):
        status = slot_values(s.children[k], a.children[k], first, n, values)
        if status != OK:
            break
        for i in range(n):
            out[i] = combine(out[i], values[i])
    if valid != NULL:
        for i in range(n):
            if not bit_at(valid, first + i):
                out[i] = NULL_VALUE
    free(values)
    return status


cdef int union_values(
    const ArrowSchema* s, const ArrowArray* a, int64_t first, int64_t n, uint64_t* out
) noexcept nogil:
    # a slot has its member's value; which member it was does not count
    cdef bint dense = s.format[2] == c'd'
    cdef const int8_t* type_ids = <const int8_t*>a.buffers[0]
    cdef const int32_t* offsets = <const int32_t*>a.buffers[1] if dense else NULL
    cdef int64_t child_of[128]
    cdef int64_t i, k, length
    cdef const char* code = s.format + 4
    cdef uint64_t* values
    cdef int status = OK
    for k in range(s.n_children):
        child_of[atoi(code)] = k
        code = strchr(code, c',')
        if code == NULL:
            break
        code += 1
    for k in range(s.n_children):
        length = a.children[k].length if dense else n
        values = <uint64_t*>malloc(8 * (length + 1))
        if values == NULL:
            return NO_MEMORY
        status = slot_values(s.children[k], a.children[k], 0 if dense else first, length, values)
        if status == OK:
            for i in range(n):
                if child_of[type_ids[first + i]] == k:
                    out[i] = values[offsets[first + i] if dense else i]
        free(values)
        if status != OK:
            return status
    return OK


cdef int run_values(
    const ArrowSchema* s, const ArrowArray* a, int64_t first, int64_t n, uint64_t* out
) noexcept nogil:
    cdef int64_t runs = a.children[1].length
    cdef const ArrowArray* ends = a.children[0]
    cdef char f = s.children[0].format[0]
    cdef uint64_t* values = <uint64_t*>malloc(8 * (runs + 1))
    cdef int64_t i, run = 0
    cdef int status
    if values == NULL:
        return NO_MEMORY
    status = slot_values(s.children[1], a.children[1], 0, runs, values)
    if status == OK:
        for i in range(n):
            while index_at(f, ends.buffers[1], ends.offset + run) <= first + i:
                run += 1
            out[i] = values[run]
    free(values)
    return status


cdef int slot_values(
    const ArrowSchema* s, const ArrowArray* a, int64_t start, int64_t n, uint64_t* out
) noexcept nogil:
    """Write the 64-bit value of `n` slots from logical slot `start`."""
    cdef int64_t first = a.offset + start
    cdef const uint8_t* valid
    cdef int64_t i
    cdef int status
    cdef char kind
    if n == 0:
        return OK
    if s.dictionary != NULL:
        return dictionary_values(s, a, first, n, out)
    if s.format[0] == c'+':
        kind = s.format[1]
        if kind == c's':
            return struct_values(s, a, first, n, out)
        if kind == c'u':
            return union_values(s, a, first, n, out)
        if kind == c'r':
            return run_values(s, a, first, n, out)
        return list_values(s, a, first, n, out)
    status = flat_values(s, a, first, n, out)
    valid = validity_of(a)
    if status == OK and valid != NULL:
        for i in range(n):
            if not bit_at(valid, first + i):
                out[i] = NULL_VALUE
    return status
