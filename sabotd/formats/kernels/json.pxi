# JSON: only the fields that are columns are converted, the rest is skipped as long as its brackets and strings close.


cdef int find_child(Context* c, Column* column, Text p, Py_ssize_t length) noexcept nogil:
    """Return the field that a key names, exactly or else but for the case of ASCII letters; -1: none."""
    cdef int i
    cdef Py_ssize_t k
    cdef uint8_t a, b
    cdef Column* child
    for i in range(column.n_children):
        child = column.children[i]
        if child.name_length == length and memcmp(child.name, p, length) == 0:
            return i
    for i in range(column.n_children):
        child = column.children[i]
        if child.name_length != length:
            continue
        for k in range(length):
            a = p[k]
            b = <uint8_t>child.name[k]
            if a != b and ((a | 0x20) != (b | 0x20) or (a | 0x20) < c"a" or (a | 0x20) > c"z"):
                break
        else:
            return i
    return -1


cdef bint scratch_room(Context* c, int64_t need) noexcept nogil:
    cdef void* room
    if need <= c.scratch_capacity:
        return True
    room = realloc(c.scratch, need * 2)
    if room == NULL:
        return False
    c.scratch = <uint8_t*>room
    c.scratch_capacity = need * 2
    return True


cdef Text read_key(Context* c, Column* column, int place, Text p, int* child) noexcept nogil:
    """Read a key that was not foreseen, from after its quote to after its closing one; learn it for `place`."""
    cdef int flags = 0
    cdef Py_ssize_t length
    cdef Text stop = sb_string_end(p, c.end, c.lim, &flags)
    if stop == NULL:
        return fail(c, E_JSON, p)
    if flags & SB_ESCAPED:
        if not scratch_room(c, stop - p):
            return fail(c, E_MEMORY, p)
        length = sb_unescape(p, stop, c.scratch)
        if length < 0:
            return fail(c, E_JSON, p)
        child[0] = find_child(c, column, c.scratch, length)
        return stop + 1
    child[0] = find_child(c, column, p, stop - p)
    if place < MAX_KEYS:
        if column.keys == NULL:
            column.keys = <sb_key*>calloc(MAX_KEYS, sizeof(sb_key))
            if column.keys == NULL:
                return fail(c, E_MEMORY, p)
        if place >= column.n_keys:
            column.n_keys = place + 1
        sb_key_learn(&column.keys[place], p, stop - p, child[0])
    return stop + 1


cdef Text read_object(Context* c, Column* column, Text p) noexcept nogil:
    """Read the object at `p` as one more row of `column`; of a repeated key the last value counts."""
    cdef int64_t row = column.length
    cdef int place = 0, child, i
    cdef Column* field
    if not reserve(column):
        return fail(c, E_MEMORY, p)
    p = sb_skip_space(p + 1, c.end)
    if p < c.end and p[0] == c"}":
        p += 1
    else:
        while True:
            if p >= c.end or p[0] != c'"':
                return fail(c, E_JSON, p)
            p += 1
            if place < column.n_keys and sb_key_match(&column.keys[place], p, c.end, c.lim):
                child = column.keys[place].child
                p += key_length(&column.keys[place])
            else:
                p = read_key(c, column, place, p, &child)
                if p == NULL:
                    return NULL
            place += 1
            if p < c.end and p[0] != c":":
                p = sb_skip_space(p, c.end)
            if p >= c.end or p[0] != c":":
                return fail(c, E_JSON, p)
            p += 1
            if p < c.end and p[0] <= 32:
                p = sb_skip_space(p, c.end)
            if child >= 0:
                field = column.children[child]
                if field.length != row:
                    truncate(field, row)
                p = read_value(c, field, p)
                if p == NULL:
                    return NULL
            else:
                p = skip(c, p)
                if p == NULL:
                    return NULL
            if p < c.end and p[0] <= 32:
                p = sb_skip_space(p, c.end)
            if p >= c.end:
                return fail(c, E_JSON, p)
            if p[0] == c",":
                p += 1
                if p < c.end and p[0] <= 32:
                    p = sb_skip_space(p, c.end)
            elif p[0] == c"}":
                p += 1
                break
            else:
                return fail(c, E_JSON, p)
    for i in range(column.n_children):
        if column.children[i].length == row:
            if not append_null(column.children[i]):
                return fail(c, E_MEMORY, p)
    commit(column)
    return p


cdef inline Text skip(Context* c, Text p) noexcept nogil:
    cdef Text stop = sb_value_skip(p, c.end, c.lim)
    if stop == NULL:
        return fail(c, E_JSON, p)
    return stop


cdef Text read_list(Context* c, Column* column, Text p) noexcept nogil:
    cdef Column* item = column.children[0]
    if not reserve(column):
        return fail(c, E_MEMORY, p)
    p = sb_skip_space(p + 1, c.end)
    if p < c.end and p[0] == c"]":
        p += 1
    else:
        while True:
            p = read_value(c, item, p)
            if p == NULL:
                return NULL
            p = sb_skip_space(p, c.end)
            if p >= c.end:
                return fail(c, E_JSON, p)
            if p[0] == c",":
                p = sb_skip_space(p + 1, c.end)
            elif p[0] == c"]":
                p += 1
                break
            else:
                return fail(c, E_JSON, p)
    column.offsets[column.length + 1] = <int32_t>item.length
    commit(column)
    return p


cdef Text read_string(Context* c, Column* column, Text p) noexcept nogil:
    """Read the string whose quote is at `p`."""
    cdef int flags = 0
    cdef Text text = p + 1
    cdef Text stop = sb_string_end(text, c.end, c.lim, &flags), text_end
    cdef Py_ssize_t length
    cdef bint room
    if stop == NULL:
        return fail(c, E_JSON, p)
    if column.kind == K_STRUCT or column.kind == K_LIST:
        refuse(c, E_VALUE, column, p, stop + 1)
        return stop + 1 if append_null(column) else fail(c, E_MEMORY, p)
    if flags & SB_CONTROL:
        refuse(c, E_CONTROL, column, text, stop)
    text_end = stop
    if column.kind == K_JSON:
        text = p
        text_end = stop + 1
    elif flags & SB_ESCAPED:
        if not scratch_room(c, stop - text):
            return fail(c, E_MEMORY, p)
        length = sb_unescape(text, stop, c.scratch)
        if length < 0:
            refuse(c, E_ESCAPE, column, text, stop)
            return stop + 1 if append_null(column) else fail(c, E_MEMORY, p)
        text = c.scratch
        text_end = text + length
    if column.width:
        room = put_scalar(c, column, text, text_end, False)
    else:
        # what escapes stand for is well-formed, so the raw text's bytes decide
        room = put_text(c, column, text, text_end, not flags & SB_NON_ASCII)
    if c.at == text and c.code != E_NONE and text == c.scratch:
        c.at = p + 1
        c.at_end = stop
    return stop + 1 if room else fail(c, E_MEMORY, p)


cdef Text read_value(Context* c, Column* column, Text p) noexcept nogil:
    """Read the value at `p` as one more row of `column`."""
    cdef Text stop
    cdef uint8_t ch
    cdef bint room, number
    if p >= c.end:
        return fail(c, E_JSON, p)
    ch = p[0]
    if ch == c'"':
        return read_string(c, column, p)
    if ch == c"{" and column.kind == K_STRUCT:
        return read_object(c, column, p)
    if ch == c"[" and column.kind == K_LIST:
        return read_list(c, column, p)
    if ch == c"{" or ch == c"[":
        stop = sb_value_skip(p, c.end, c.lim)
        if stop == NULL:
            return fail(c, E_JSON, p)
        if column.kind == K_JSON or column.kind == K_VARCHAR:
            room = put_text(c, column, p, stop, False)
        else:
            refuse(c, E_VALUE, column, p, stop)
            room = append_null(column)
        return stop if room else fail(c, E_MEMORY, p)
    stop = sb_token_end(p, c.end)
    if ch == c"n" and sb_is_word(p, stop, "null", 4):
        return stop if append_null(column) else fail(c, E_MEMORY, p)
    number = sb_is_number(p, stop)
    if not number and not sb_is_word(p, stop, "true", 4) and not sb_is_word(p, stop, "false", 5):
        return fail(c, E_JSON, p)
    if column.kind == K_VARCHAR or column.kind == K_JSON:
        room = put_text(c, column, p, stop, True)
    elif column.width == 0 or (not number and column.kind != K_BOOLEAN):
        refuse(c, E_VALUE, column, p, stop)
        room = append_null(column)
    else:
        room = put_scalar(c, column, p, stop, True)
    return stop if room else fail(c, E_MEMORY, p)


cdef bint read_record(Context* c, Column* root, Errors* errors, int64_t payload, Text* at) noexcept nogil:
    """Read one top-level value; a value that does not fit takes its own row only. False: the structure is broken."""
    cdef Text p = at[0], stop
    cdef int64_t row = root.length
    c.code = E_NONE
    if p[0] != c"{":
        stop = skip(c, p)
        if stop == NULL:
            return False
        c.code = E_NOT_OBJECT
        c.at = p
        c.at_end = stop
        c.column = -1
    else:
        stop = read_object(c, root, p)
        if stop == NULL:
            return False
    at[0] = stop
    if c.code != E_NONE:
        truncate(root, row)
        return note(c, errors, payload, p, stop)
    return True


cdef void read_payload(Context* c, Column* root, Errors* errors, int64_t payload, Text p, Text end) noexcept nogil:
    """Read all values of a payload; one whose structure is broken gives no row at all, and one error."""
    cdef int64_t row = root.length, n_errors = errors.length
    cdef Text begin
    cdef bint in_array
    c.end = end
    p = sb_skip_space(p, end)
    begin = p
    while p < end:
        in_array = p[0] == c"["
        if not in_array:
            if not read_record(c, root, errors, payload, &p):
                break
            p = sb_skip_space(p, end)
            continue
        p = sb_skip_space(p + 1, end)
        if p < end and p[0] == c"]":
            p = sb_skip_space(p + 1, end)
            continue
        while True:
            if p >= end:
                fail(c, E_JSON, p)
                break
            if not read_record(c, root, errors, payload, &p):
                break
            p = sb_skip_space(p, end)
            if p >= end or (p[0] != c"," and p[0] != c"]"):
                fail(c, E_JSON, p)
                break
            p += 1
            if (p - 1)[0] == c"]":
                in_array = False
                break
            p = sb_skip_space(p, end)
        if in_array:
            break
        p = sb_skip_space(p, end)
    else:
        return
    roll_back(root, row)
    errors.length = n_errors
    while end > begin and sb_is_space((end - 1)[0]):
        end -= 1
    note(c, errors, payload, begin, end)


cdef extern from * nogil:
    """
    #define sb_key_length(k) ((k)->length)
    """
    int key_length "sb_key_length"(const sb_key* key)
