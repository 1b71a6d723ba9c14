# One value's text into its column. The text is bare: no quotes, escapes resolved.


cdef inline bint is_one_of(Text p, Text end, const char* word, Py_ssize_t length) noexcept nogil:
    """Whether the text is `word` (lower case), in any case."""
    cdef Py_ssize_t i
    if end - p != length:
        return False
    for i in range(length):
        if (p[i] | 0x20) != <uint8_t>word[i]:
            return False
    return True


cdef int text_bool(Text p, Text end) noexcept nogil:
    """PostgreSQL's spellings: 1, 0, or -1 for none of them."""
    if end - p == 1:
        if p[0] == c"1":
            return 1
        if p[0] == c"0":
            return 0
    if is_one_of(p, end, "true", 4) or is_one_of(p, end, "t", 1) or is_one_of(p, end, "yes", 3):
        return 1
    if is_one_of(p, end, "y", 1) or is_one_of(p, end, "on", 2):
        return 1
    if is_one_of(p, end, "false", 5) or is_one_of(p, end, "f", 1) or is_one_of(p, end, "no", 2):
        return 0
    if is_one_of(p, end, "n", 1) or is_one_of(p, end, "off", 3):
        return 0
    return -1


cdef inline bint store_int(Column* column, int64_t value) noexcept nogil:
    cdef uint8_t* at = column.data + column.length * column.width
    if column.kind == K_UINT:
        if value < 0:
            return False
        if column.width == 8:
            (<uint64_t*>at)[0] = <uint64_t>value
        elif column.width == 4:
            if value > 0xffffffffLL:
                return False
            (<uint32_t*>at)[0] = <uint32_t>value
        elif column.width == 2:
            if value > 0xffff:
                return False
            (<uint16_t*>at)[0] = <uint16_t>value
        else:
            if value > 0xff:
                return False
            at[0] = <uint8_t>value
    elif column.width == 8:
        (<int64_t*>at)[0] = value
    elif column.width == 4:
        if value != <int32_t>value:
            return False
        (<int32_t*>at)[0] = <int32_t>value
    elif column.width == 2:
        if value != <int16_t>value:
            return False
        (<int16_t*>at)[0] = <int16_t>value
    else:
        if value != <int8_t>value:
            return False
        (<int8_t*>at)[0] = <int8_t>value
    return True


cdef bint store_integer_text(Column* column, Text p, Text end) noexcept nogil:
    cdef int64_t short_value
    cdef sb_int128 value
    if sb_short_int(p, end, &short_value):
        return store_int(column, short_value)
    if not sb_fixed(p, end, 0, True, &value):
        return False
    if not sb_within(value, column.width, column.kind == K_INT):
        return False
    # little-endian machines only: the low bytes come first
    cdef uint8_t wide[16]
    sb_store128(wide, value)
    memcpy(column.data + column.length * column.width, wide, column.width)
    return True


cdef bint store_number(Column* column, Text p, Text end) noexcept nogil:
    """FLOAT, DOUBLE and DECIMAL."""
    cdef double real
    cdef sb_int128 fixed
    cdef uint8_t* at = column.data + column.length * column.width
    if column.kind == K_DECIMAL:
        if not sb_fixed(p, end, <int>column.scale, False, &fixed) or not sb_fits(fixed, column.precision):
            return False
        sb_store128(at, fixed)
        return True
    if not sb_double(p, end, column.kind == K_FLOAT, &real):
        return False
    if column.kind == K_FLOAT:
        (<float*>at)[0] = <float>real
    else:
        (<double*>at)[0] = real
    return True


cdef bint store_time(Context* c, Column* column, Text p, Text end, bint is_number) noexcept nogil:
    """DATE, TIME and TIMESTAMP, from ISO 8601 or from a number."""
    cdef int64_t value, seconds, nanos
    cdef uint8_t* at = column.data + column.length * column.width
    if column.kind == K_DATE:
        if is_number:
            if not sb_short_int(p, end, &value):
                return False
        else:
            if end - p == 10:
                if not sb_date(p, end, &c.dates, &value):
                    return False
            else:
                if not sb_timestamp(p, end, &c.dates, &seconds, &nanos) or not sb_date(p, end, &c.dates, &value):
                    return False
        if value != <int32_t>value:
            return False
        (<int32_t*>at)[0] = <int32_t>value
        return True
    if column.kind == K_TIME:
        if is_number:
            if not sb_short_int(p, end, &value):
                return False
        else:
            if sb_clock(p, end, &seconds, &nanos) != end:
                return False
            value = seconds * 1000000 + nanos // 1000
        if value < 0 or value >= 86400000000LL:
            return False
        (<int64_t*>at)[0] = value
        return True
    if is_number:
        if not sb_epoch(p, end, column.scale, &value):
            return False
    elif not sb_timestamp(p, end, &c.dates, &seconds, &nanos):
        return False
    elif not sb_timestamp_ticks(seconds, nanos, column.scale, &value):
        return False
    (<int64_t*>at)[0] = value
    return True


cdef inline int hex_digit(uint8_t ch) noexcept nogil:
    cdef uint8_t lower = ch | 0x20
    if c"0" <= ch <= c"9":
        return ch - c"0"
    if c"a" <= lower <= c"f":
        return lower - c"a" + 10
    return -1


cdef int64_t blob_bytes(Text p, Text end, uint8_t* out) noexcept nogil:
    """PostgreSQL's input form: hexadecimal after a backslash and x, else the bytes as they stand; -1 if malformed."""
    cdef int64_t n = 0
    cdef int high, low
    if end - p < 2 or p[0] != 92 or p[1] != c"x":
        memcpy(out, p, end - p)
        return end - p
    p += 2
    if (end - p) & 1:
        return -1
    while p < end:
        high = hex_digit(p[0])
        low = hex_digit(p[1])
        if high < 0 or low < 0:
            return -1
        out[n] = <uint8_t>(high << 4 | low)
        n += 1
        p += 2
    return n


cdef bint uuid_text(Text p, Text end, uint8_t* out) noexcept nogil:
    cdef int i
    if end - p != 36:
        return False
    for i in range(36):
        if i == 8 or i == 13 or i == 18 or i == 23:
            if p[i] != c"-":
                return False
            out[i] = p[i]
        else:
            if hex_digit(p[i]) < 0:
                return False
            out[i] = p[i] | 0x20 if p[i] > c"9" else p[i]
    return True


cdef bint put_text(Context* c, Column* column, Text p, Text end, bint checked) noexcept nogil:
    """Append a VARCHAR, JSON, BLOB or UUID; `checked`: known to be UTF-8. False when memory is out."""
    cdef uint8_t* out
    cdef int64_t used = end - p
    if not reserve(column):
        return False
    out = heap_room(column, used)
    if out == NULL:
        return False
    if column.kind == K_UUID:
        if not uuid_text(p, end, out):
            refuse(c, E_VALUE, column, p, end)
            return append_null(column)
    elif column.kind == K_BLOB:
        used = blob_bytes(p, end, out)
        if used < 0:
            refuse(c, E_VALUE, column, p, end)
            return append_null(column)
    else:
        if not checked and not sb_is_utf8(p, end):
            refuse(c, E_UTF8, column, p, end)
            return append_null(column)
        memcpy(out, p, used)
    commit_heap(column, used)
    return True


cdef bint put_scalar(Context* c, Column* column, Text p, Text end, bint is_number) noexcept nogil:
    """Append a value of fixed width from its text; one that does not fit is refused. False when memory is out.

    `is_number`: it stood there as a number, not as a string.
    """
    cdef int truth
    cdef bint fits
    if not reserve(column):
        return False
    if column.kind == K_BOOLEAN:
        truth = text_bool(p, end)
        fits = truth >= 0
        if truth == 1:
            column.data[column.length >> 3] |= <uint8_t>(1 << (column.length & 7))
    elif column.kind <= K_UINT:
        fits = store_integer_text(column, p, end)
    elif column.kind <= K_DECIMAL:
        fits = store_number(column, p, end)
    else:
        fits = store_time(c, column, p, end, is_number)
    if fits:
        commit(column)
        return True
    refuse(c, E_VALUE, column, p, end)
    return append_null(column)
