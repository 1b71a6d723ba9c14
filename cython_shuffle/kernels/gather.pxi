# Rows into their new order: one pass a column, reading in sequence where the width is fixed.

cdef extern from *:
    """
    typedef struct { uint64_t a, b; } sabot_16;
    typedef struct { uint64_t a, b, c, d; } sabot_32;
    """
    ctypedef struct sabot_16:
        uint64_t a
    ctypedef struct sabot_32:
        uint64_t a

ctypedef fused cell:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    sabot_16
    sabot_32


cdef void scatter(const cell* src, const uint32_t* target, int64_t n, cell* out) noexcept nogil:
    # writes run in as many streams as there are destinations; reads in one: faster than gathering by order
    cdef int64_t i
    for i in range(n):
        out[target[i]] = src[i]


cdef void gather_bits(
    const uint8_t* bits, int64_t first, const uint32_t* order, int64_t n, uint8_t* out
) noexcept nogil:
    cdef int64_t i, byte
    cdef uint8_t packed
    cdef int k
    for byte in range(n >> 3):
        packed = 0
        i = byte << 3
        for k in range(8):
            packed |= <uint8_t>(bit_at(bits, first + order[i + k]) << k)
        out[byte] = packed
    if n & 7:
        packed = 0
        i = n & ~<int64_t>7
        for k in range(<int>(n & 7)):
            packed |= <uint8_t>(bit_at(bits, first + order[i + k]) << k)
        out[n >> 3] = packed


cdef int64_t gathered_offsets(
    const offset_type* offsets, const uint32_t* order, int64_t n, offset_type* out
) noexcept nogil:
    cdef int64_t i, total = 0
    for i in range(n):
        out[i] = <offset_type>total
        total += offsets[order[i] + 1] - offsets[order[i]]
    out[n] = <offset_type>total
    return total


cdef void gather_strings(
    const offset_type* offsets, const uint8_t* data, const uint32_t* order, int64_t n,
    const offset_type* out_offsets, uint8_t* out
) noexcept nogil:
    cdef int64_t i, length, start
    cdef const uint8_t* read_end
    cdef uint8_t* write_end
    cdef uint8_t* to
    if n == 0:
        return
    read_end = data + offsets[n]
    write_end = out + out_offsets[n]
    for i in range(n):
        start = offsets[order[i]]
        length = offsets[order[i] + 1] - start
        to = out + out_offsets[i]
        # a whole 16 bytes move in one instruction; what is too much is overwritten by the next row
        if length <= 16 and write_end - to >= 16 and read_end - (data + start) >= 16:
            memcpy(to, data + start, 16)
        else:
            memcpy(to, data + start, length)


cdef _gather_validity(const ArrowArray* a, int64_t first, int64_t n, const uint32_t* order):
    cdef const uint8_t* valid = validity_of(a)
    cdef uint8_t* out
    if valid == NULL or n == 0:
        return None
    buffer = pa.allocate_buffer((n + 7) >> 3)
    out = <uint8_t*>writable(buffer)
    with nogil:
        gather_bits(valid, first, order, n, out)
    return buffer


cdef _gather_width(
    int width, const ArrowArray* a, int64_t first, int64_t n, const uint32_t* order, const uint32_t* target
):
    cdef const uint8_t* src = <const uint8_t*>a.buffers[1] + first * width
    cdef uint8_t* out
    cdef int64_t i
    buffer = pa.allocate_buffer(n * width)
    out = <uint8_t*>writable(buffer)
    with nogil:
        if width == 8:
            scatter(<const uint64_t*>src, target, n, <uint64_t*>out)
        elif width == 4:
            scatter(<const uint32_t*>src, target, n, <uint32_t*>out)
        elif width == 2:
            scatter(<const uint16_t*>src, target, n, <uint16_t*>out)
        elif width == 1:
            scatter(<const uint8_t*>src, target, n, <uint8_t*>out)
        elif width == 16:
            scatter(<const sabot_16*>src, target, n, <sabot_16*>out)
        elif width == 32:
            scatter(<const sabot_32*>src, target, n, <sabot_32*>out)
        else:
            for i in range(n):
                memcpy(out + i * width, src + <int64_t>order[i] * width, width)
    return buffer


cdef _gather_strings(bint large, const ArrowArray* a, int64_t first, int64_t n, const uint32_t* order):
    cdef const int64_t* long_offsets = <const int64_t*>a.buffers[1] + first
    cdef const int32_t* offsets = <const int32_t*>a.buffers[1] + first
    cdef const uint8_t* data = <const uint8_t*>a.buffers[2]
    cdef uint8_t* out_offsets
    cdef uint8_t* out
    cdef int64_t total = 0
    offsets_buffer = pa.allocate_buffer((n + 1) * (8 if large else 4))
    out_offsets = <uint8_t*>writable(offsets_buffer)
    with nogil:
        if n == 0:
            memset(out_offsets, 0, 8 if large else 4)
        elif large:
            total = gathered_offsets(long_offsets, order, n, <int64_t*>out_offsets)
        else:
            total = gathered_offsets(offsets, order, n, <int32_t*>out_offsets)
    data_buffer = pa.allocate_buffer(total)
    out = <uint8_t*>writable(data_buffer)
    with nogil:
        if large:
            gather_strings(long_offsets, data, order, n, <const int64_t*>out_offsets, out)
        else:
            gather_strings(offsets, data, order, n, <const int32_t*>out_offsets, out)
    return offsets_buffer, data_buffer


def gather(batch, columns, order, target):
    cdef _Export export = _Export(batch)
    cdef const ArrowArray* a
    cdef const uint32_t* order_rows = <const uint32_t*><size_t>order.address
    cdef const uint32_t* target_rows = <const uint32_t*><size_t>target.address
    cdef int64_t first, n = export.array.length
    cdef const char* f
    cdef char c
    cdef int width
    cdef uint8_t* out
    if order.size != 4 * n or target.size != 4 * n:
        raise ValueError(f"order of {order.size // 4!r} and target of {target.size // 4!r} rows for a batch of {n!r}")
    gathered = []
    for column in columns:
        if not 0 <= column < export.schema.n_children:
            raise IndexError(f"no column {column!r} in a batch of {export.schema.n_children}")
        a = export.array.children[<int64_t>column]
        f = export.schema.children[<int64_t>column].format
        first = a.offset + export.array.offset
        c = f[0]
        valid = _gather_validity(a, first, n, order_rows)
        if c == c'b':
            bits = pa.allocate_buffer((n + 7) >> 3)
            out = <uint8_t*>writable(bits)
            with nogil:
                gather_bits(<const uint8_t*>a.buffers[1], first, order_rows, n, out)
            gathered.append([valid, bits])
        elif c == c'u' or c == c'z' or c == c'U' or c == c'Z':
            gathered.append([valid, *_gather_strings(c == c'U' or c == c'Z', a, first, n, order_rows)])
        else:
            width = fixed_width(f)
            if width <= 0 or export.schema.children[<int64_t>column].dictionary != NULL:
                raise TypeError(f"column {batch.schema.field(column)!r} cannot be gathered by the kernel")
            gathered.append([valid, _gather_width(width, a, first, n, order_rows, target_rows)])
    return gathered


cdef int fixed_width(const char* f) noexcept nogil:
    cdef char c = f[0]
    cdef const char* comma
    if c == c'c' or c == c'C':
        return 1
    if c == c's' or c == c'S' or c == c'e':
        return 2
    if c == c'i' or c == c'I' or c == c'f':
        return 4
    if c == c'l' or c == c'L' or c == c'g':
        return 8
    if c == c'w':
        return atoi(f + 2)
    if c == c'd':
        comma = strchr(strchr(f, c',') + 1, c',')
        return atoi(comma + 1) // 8 if comma != NULL else 16
    if c == c't':
        if f[1] == c'd':
            return 4 if f[2] == c'D' else 8
        if f[1] == c't':
            return 4 if f[2] == c's' or f[2] == c'm' else 8
        if f[1] == c'i':
            return 4 if f[2] == c'M' else 8 if f[2] == c'D' else 16
        return 8
    return 0
