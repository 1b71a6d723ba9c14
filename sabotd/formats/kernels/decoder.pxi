# The Python side: whole buffers in, Arrow arrays, errors and the way they belong together out.

cdef struct Errors:
    Bad* items
    int64_t length
    int64_t capacity


cdef bint note(Context* c, Errors* errors, int64_t payload, Text start, Text end) noexcept nogil:
    """Keep the error of the context for the record [start, end). False when memory is out."""
    cdef int64_t capacity
    cdef void* room
    cdef Bad* bad
    if errors.length == errors.capacity:
        capacity = errors.capacity * 2 if errors.capacity else 16
        room = realloc(errors.items, capacity * sizeof(Bad))
        if room == NULL:
            c.code = E_MEMORY
            return False
        errors.items = <Bad*>room
        errors.capacity = capacity
    bad = &errors.items[errors.length]
    bad.start = start - c.begin
    bad.end = end - c.begin
    bad.payload = payload
    bad.code = c.code
    bad.column = c.column
    bad.at = c.at - start
    bad.at_length = c.at_end - c.at
    errors.length += 1
    return True


cdef class _View:
    """A buffer held open."""

    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, object data):
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef class RowDecoder:
    """Decodes JSON or CSV records into the columns of a plan. One thread at a time; the GIL is released meanwhile.

    Parameters
    ----------
    plans : tuple of ColumnPlan
        The columns to give.
    csv : tuple or None
        None for JSON; else (delimiter byte, quote byte or -1, NULL text, field map), where field map entry i is the
        column that field i gives, or -1.
    """

    cdef Column* root
    cdef Context context
    cdef CsvRules rules
    cdef bint is_csv
    cdef tuple plans
    cdef list names
    cdef bytes null_text

    def __cinit__(self, tuple plans, object csv=None):
        cdef int i
        self.plans = plans
        self.names = []
        if not sb_convert_init():
            raise MemoryError
        self.root = <Column*>calloc(1, sizeof(Column))
        if self.root == NULL:
            raise MemoryError
        self.root.kind = K_STRUCT
        self.root.children = <Column**>calloc(len(plans) + 1, sizeof(Column*))
        if self.root.children == NULL:
            raise MemoryError
        for i, plan in enumerate(plans):
            self.root.children[i] = make_column(plan, self.names, "")
            self.root.n_children = i + 1
        self.is_csv = csv is not None
        if csv is not None:
            delimiter, quote, null_text, field_map = csv
            self.null_text = null_text
            self.rules.delimiter = delimiter
            self.rules.quote = quote
            self.rules.null_text = <Text><const char*>self.null_text
            self.rules.null_length = len(self.null_text)
            self.rules.n_fields = len(field_map)
            self.rules.children = <int*>calloc(len(field_map) + 1, sizeof(int))
            if self.rules.children == NULL:
                raise MemoryError
            for i, child in enumerate(field_map):
                self.rules.children[i] = child

    def __dealloc__(self):
        free_column(self.root)
        free(self.rules.children)
        free(self.context.scratch)

    def decode_lines(self, object data, int64_t max_records=-1, int64_t limit=-1, bint final=True):
        """Decode newline-separated records.

        Parameters
        ----------
        max_records : int
            Stop after so many; -1: no limit.
        limit : int
            Begin no record at this byte or after; -1: no limit.
        final : bool
            Nothing follows the buffer: its last record needs no newline. Else a record without its end is left.

        Returns
        -------
        rows : int
        arrays : list of Array
        errors : list of (int, int, int, str)
            Record number in the call, first byte, byte past the end, and what is wrong.
        consumed : int
            Bytes used up.
        """
        cdef _View view = _View(data)
        cdef Errors errors
        cdef int64_t records = 0
        cdef Text p = <Text>view.view.buf, end, line_end, begin, line, stop
        memset(&errors, 0, sizeof(errors))
        self._check(view.view.len)
        begin = p
        end = p + view.view.len
        self.context.begin = begin
        self.context.lim = end
        self.context.end = end
        self.rules.partial = not final
        stop = end if limit < 0 or limit > view.view.len else begin + limit
        with nogil:
            while p < stop and records != max_records:
                if self.is_csv:
                    line = skip_blank_lines(p, end)
                    if line >= stop:
                        p = line
                        break
                    line = csv_record(&self.context, &self.rules, self.root, &errors, records, line)
                    if line == NULL:
                        break
                    p = line
                    records += 1
                    continue
                line_end = <Text>memchr(p, c"\n", end - p)
                if line_end == NULL:
                    if not final:
                        break
                    line_end = end
                p = sb_skip_space(p, line_end)
                if p < line_end:
                    read_payload(&self.context, self.root, &errors, records, p, line_end)
                    if self.context.code == E_MEMORY:
                        break
                    records += 1
                p = line_end + 1 if line_end < end else end
        try:
            if self.context.code == E_MEMORY:
                raise MemoryError
            return self._finish(&errors, None) + (p - begin,)
        finally:
            free(errors.items)
            if self.context.code == E_MEMORY:
                free_buffers(self.root)
                self.context.code = E_NONE

    def decode_payloads(self, object data, object offsets, object skip=None):
        """Decode payloads ``data[offsets[i]:offsets[i + 1]]``; `skip`: a byte a payload, not 0 where it is NULL.

        Returns
        -------
        rows, arrays, errors
            As of `decode_lines`, the errors' numbers being payloads.
        payload_index : Buffer
            int32, one a row.
        """
        cdef _View view = _View(data), bounds = _View(offsets)
        cdef _View mask = None if skip is None else _View(skip)
        cdef Errors errors
        cdef int64_t n = bounds.view.len // 8 - 1, i, row
        cdef const int64_t* at = <const int64_t*>bounds.view.buf
        cdef const uint8_t* masked = NULL if mask is None else <const uint8_t*>mask.view.buf
        cdef Text base = <Text>view.view.buf, p, end
        cdef int32_t* index = NULL
        cdef int64_t capacity = 0, previous = 0
        cdef void* room
        cdef bint ordered = True
        memset(&errors, 0, sizeof(errors))
        self._check(view.view.len)
        self.rules.partial = False
        if mask is not None and mask.view.len < n:
            raise ValueError("skip is shorter than the payloads")
        self.context.begin = base
        self.context.lim = base + view.view.len
        with nogil:
            for i in range(n):
                if at[i] < previous or at[i + 1] < at[i] or at[i + 1] > view.view.len:
                    ordered = False
                    break
                previous = at[i]
                if masked != NULL and masked[i]:
                    continue
                row = self.root.length
                p = base + at[i]
                end = base + at[i + 1]
                if self.is_csv:
                    self.context.end = end
                    while True:
                        p = skip_blank_lines(p, end)
                        if p >= end:
                            break
                        p = csv_record(&self.context, &self.rules, self.root, &errors, i, p)
                        if p == NULL:
                            break
                else:
                    read_payload(&self.context, self.root, &errors, i, p, end)
                if self.context.code == E_MEMORY:
                    break
                if self.root.length > capacity:
                    capacity = self.root.length * 2 if self.root.length > n else n
                    room = realloc(index, capacity * 4)
                    if room == NULL:
                        self.context.code = E_MEMORY
                        break
                    index = <int32_t*>room
                while row < self.root.length:
                    index[row] = <int32_t>i
                    row += 1
        cdef object payload_index = hand_over(index, self.root.length * 4)
        try:
            if not ordered:
                raise ValueError("payload offsets do not ascend within the buffer")
            if self.context.code == E_MEMORY:
                raise MemoryError
            return self._finish(&errors, payload_index) + (payload_index,)
        finally:
            free(errors.items)
            if not ordered or self.context.code == E_MEMORY:
                free_buffers(self.root)
                self.context.code = E_NONE

    cdef _check(self, int64_t size):
        self.context.code = E_NONE
        if size > 0x7fffffff:
            raise ValueError("a buffer to decode must be under 2 GiB")

    cdef tuple _finish(self, Errors* errors, object payload_index):
        cdef int i
        cdef int64_t k, rows = self.root.length
        cdef list arrays = [finish(self.root.children[i], plan) for i, plan in enumerate(self.plans)]
        free(self.root.valid)
        self.root.valid = NULL
        self.root.length = self.root.capacity = 0
        cdef list bad = []
        for k in range(errors.length):
            bad.append((errors.items[k].payload, errors.items[k].start, errors.items[k].end, self._reason(&errors.items[k])))
        return (rows, arrays, bad)

    cdef str _reason(self, Bad* bad):
        cdef str text = ""
        cdef Text at = self.context.begin + bad.start + bad.at
        if bad.code == E_JSON:
            return f"malformed json at byte {bad.at}"
        if bad.code == E_NOT_OBJECT:
            return "not a json object"
        if bad.code == E_FIELDS:
            return f"{bad.column} fields where {self.rules.n_fields} are expected"
        if bad.code == E_QUOTE:
            return "a quoted field does not end where it should"
        name, plan = self.names[bad.column]
        if bad.code == E_UTF8:
            return f"column {name!r}: not utf-8"
        if bad.code == E_ESCAPE:
            return f"column {name!r}: a malformed escape"
        if bad.code == E_CONTROL:
            return f"column {name!r}: a control character inside a string"
        # the text of a field with doubled quotes was read from elsewhere
        if bad.at >= 0 and bad.at + bad.at_length <= bad.end - bad.start:
            text = (<const char*>at)[:bad.at_length if bad.at_length < 40 else 40].decode("utf-8", "replace")
        return f"column {name!r}: {text!r} is not a value of type {plan.sql_type}"
