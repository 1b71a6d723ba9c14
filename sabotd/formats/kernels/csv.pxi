# CSV after RFC 4180: a quote doubled inside quotes, newlines inside quotes, fields by position.

cdef struct CsvRules:
    uint8_t delimiter
    int quote
    Text null_text
    Py_ssize_t null_length
    int n_fields
    int* children
    bint partial  # more may follow the buffer: a record without its end is left


cdef Text csv_quoted(Context* c, CsvRules* rules, Text p, Text* text, Text* text_end) noexcept nogil:
    """Read the quoted field whose quote is at `p`; returns past the closing quote, NULL if there is none."""
    cdef uint8_t quote = <uint8_t>rules.quote
    cdef Text start = p + 1, stop
    cdef int64_t used = 0
    cdef bint doubled = False
    p = start
    while True:
        stop = <Text>memchr(p, quote, c.end - p)
        if stop == NULL:
            return NULL
        if stop + 1 >= c.end or stop[1] != quote:
            break
        if not doubled and not scratch_room(c, c.end - start):
            return NULL
        doubled = True
        memcpy(c.scratch + used, p, stop + 1 - p)
        used += stop + 1 - p
        p = stop + 2
    if doubled:
        memcpy(c.scratch + used, p, stop - p)
        used += stop - p
        text[0] = c.scratch
        text_end[0] = c.scratch + used
    else:
        text[0] = start
        text_end[0] = stop
    return stop + 1


cdef bint csv_value(Context* c, CsvRules* rules, Column* column, Text text, Text stop, bint quoted) noexcept nogil:
    """Append one field's value. False when memory is out."""
    cdef Text p, end, begin
    if not quoted and stop - text == rules.null_length and memcmp(text, rules.null_text, rules.null_length) == 0:
        return append_null(column)
    if column.width:
        while text < stop and sb_is_space(text[0]):
            text += 1
        while stop > text and sb_is_space((stop - 1)[0]):
            stop -= 1
        return put_scalar(c, column, text, stop, column.kind >= K_DATE and is_plain_number(text, stop))
    if column.kind != K_STRUCT and column.kind != K_LIST:
        return put_text(c, column, text, stop, False)
    # a nested value stands in its field as JSON
    if c.code != E_NONE:
        return append_null(column)
    end = c.end
    begin = c.lim
    c.end = stop
    c.lim = stop
    p = read_value(c, column, sb_skip_space(text, stop))
    if p != NULL and sb_skip_space(p, stop) != stop:
        p = NULL
        c.code = E_VALUE
    c.end = end
    c.lim = begin
    if p == NULL:
        if c.code == E_MEMORY:
            return False
        roll_back(column, column.length)
        c.code = E_NONE
        refuse(c, E_VALUE, column, text, stop)
    return True


cdef inline bint is_plain_number(Text p, Text end) noexcept nogil:
    """Whether a time column's text is a number and no date: digits, perhaps a sign or a point."""
    return sb_is_number(p, end)


cdef Text read_line(Context* c, CsvRules* rules, Column* root, Text p) noexcept nogil:
    """Read the record at `p`; returns past its newline. A record that is bad in any way sets the code."""
    cdef int64_t row = root.length
    cdef int place = 0, child, i
    cdef Text text, stop, begin = p
    cdef bint quoted
    c.code = E_NONE
    if not reserve(root):
        return fail(c, E_MEMORY, p)
    while True:
        quoted = p < c.end and rules.quote >= 0 and p[0] == rules.quote
        if quoted:
            p = csv_quoted(c, rules, p, &text, &stop)
            if p == NULL and rules.partial and c.code != E_MEMORY:
                return fail(c, E_PARTIAL, begin)
            if p != NULL and p < c.end and p[0] == c"\r" and (p + 1 == c.end or p[1] == c"\n"):
                p += 1
            if p == NULL or (p < c.end and p[0] != rules.delimiter and p[0] != c"\n"):
                fail(c, E_QUOTE if c.code != E_MEMORY else E_MEMORY, begin)
                p = <Text>memchr(begin, c"\n", c.end - begin)
                return c.end if p == NULL else p + 1
        else:
            text = p
            p = sb_field_end(p, c.end, c.lim, rules.delimiter)
            stop = p
            if stop > text and (stop - 1)[0] == c"\r" and (p >= c.end or p[0] == c"\n"):
                stop -= 1
        if place < rules.n_fields:
            child = rules.children[place]
            if child >= 0 and not csv_value(c, rules, root.children[child], text, stop, quoted):
                return fail(c, E_MEMORY, p)
        place += 1
        if p >= c.end or p[0] != rules.delimiter:
            break
        p += 1
    if p < c.end:
        p += 1
    elif rules.partial:
        return fail(c, E_PARTIAL, begin)
    if place != rules.n_fields:
        c.code = E_FIELDS
        c.column = place
        c.at = c.at_end = begin
    for i in range(root.n_children):
        if root.children[i].length == row and not append_null(root.children[i]):
            return fail(c, E_MEMORY, p)
    commit(root)
    return p


cdef Text csv_record(Context* c, CsvRules* rules, Column* root, Errors* errors, int64_t payload, Text p) noexcept nogil:
    """Read a record and note it if it is bad; NULL when memory is out or the record has no end yet."""
    cdef int64_t row = root.length
    cdef Text begin = p, last
    p = read_line(c, rules, root, p)
    if p == NULL:
        roll_back(root, row)
        return NULL
    if c.code != E_NONE:
        if c.code == E_MEMORY:
            return NULL
        roll_back(root, row)
        last = p
        while last > begin and ((last - 1)[0] == c"\n" or (last - 1)[0] == c"\r"):
            last -= 1
        if not note(c, errors, payload, begin, last):
            return NULL
    return p


cdef inline Text skip_blank_lines(Text p, Text end) noexcept nogil:
    while p < end and (p[0] == c"\n" or p[0] == c"\r"):
        p += 1
    return p
