# From rows to destinations: hash, key group, counting sort.

cdef enum:
    CHUNK = 1024


cdef int row_hashes(
    const ArrowSchema** schemas, const ArrowArray** arrays, int64_t* shifts, uint64_t** ready,
    int n_columns, int64_t first, int64_t n, uint64_t* scratch, uint64_t* h
) noexcept nogil:
    """Hash at most CHUNK rows from `first`; `ready` holds whole columns that cannot be cut."""
    cdef int64_t i
    cdef int k, status
    cdef const uint64_t* values
    for i in range(n):
        h[i] = SEED
    for k in range(n_columns):
        if ready[k] != NULL:
            values = ready[k] + first
        else:
            status = slot_values(schemas[k], arrays[k], shifts[k] + first, n, scratch)
            if status != OK:
                return status
            values = scratch
        for i in range(n):
            h[i] = combine(h[i], values[i])
    return OK


cdef int hash_batch(
    const ArrowSchema* s, const ArrowArray* a, const int* columns, int n_columns,
    const uint16_t* destination_of, uint64_t n_groups, uint64_t* hashes, uint16_t* destinations
) noexcept nogil:
    """Write the row hashes, or, with `destination_of` (one a key group), the rows' destinations."""
    cdef const ArrowSchema** schemas = <const ArrowSchema**>malloc(sizeof(void*) * (n_columns + 1))
    cdef const ArrowArray** arrays = <const ArrowArray**>malloc(sizeof(void*) * (n_columns + 1))
    cdef uint64_t** ready = <uint64_t**>calloc(n_columns + 1, sizeof(void*))
    cdef int64_t* shifts = <int64_t*>calloc(n_columns + 1, sizeof(int64_t))
    cdef uint64_t scratch[CHUNK]
    cdef uint64_t chunk[CHUNK]
    cdef uint64_t* h
    cdef int64_t first, n, i, n_rows = a.length
    cdef int k, status = OK
    if schemas == NULL or arrays == NULL or ready == NULL or shifts == NULL:
        status = NO_MEMORY
    if status == OK:
        for k in range(n_columns):
            schemas[k] = s.children[columns[k]]
            arrays[k] = a.children[columns[k]]
            shifts[k] = a.offset
            if schemas[k].dictionary != NULL or schemas[k].format[0] == c'+':
                ready[k] = <uint64_t*>malloc(8 * (n_rows + 1))
                if ready[k] == NULL:
                    status = NO_MEMORY
                    break
                status = slot_values(schemas[k], arrays[k], shifts[k], n_rows, ready[k])
                if status != OK:
                    break
    first = 0
    while status == OK and first < n_rows:
        n = n_rows - first if n_rows - first < CHUNK else CHUNK
        h = &chunk[0]
        if hashes != NULL:
            h = hashes + first
        status = row_hashes(schemas, arrays, shifts, ready, n_columns, first, n, scratch, h)
        if destination_of != NULL:
            for i in range(n):
                destinations[first + i] = destination_of[((h[i] >> 32) * n_groups) >> 32]
        first += n
    if ready != NULL:
        for k in range(n_columns):
            free(ready[k])
    free(ready)
    free(schemas)
    free(arrays)
    free(shifts)
    return status


cdef _run_hash(batch, columns, const uint16_t* destination_of, uint64_t n_groups, bint as_hashes):
    cdef _Export export = _Export(batch)
    cdef int n_columns = len(columns)
    cdef int64_t n_rows = export.array.length
    cdef int* wanted
    cdef int k, status
    cdef uint64_t* hashes = NULL
    cdef uint16_t* destinations = NULL
    for column in columns:
        if not 0 <= column < export.schema.n_children:
            raise IndexError(f"no column {column!r} in a batch of {export.schema.n_children}")
    out = pa.allocate_buffer(n_rows * (8 if as_hashes else 2))
    if as_hashes:
        hashes = <uint64_t*>writable(out)
    else:
        destinations = <uint16_t*>writable(out)
    wanted = <int*>malloc(sizeof(int) * (n_columns + 1))
    if wanted == NULL:
        raise MemoryError
    for k in range(n_columns):
        wanted[k] = columns[k]
    with nogil:
        status = hash_batch(
            export.schema, export.array, wanted, n_columns, destination_of, n_groups, hashes, destinations
        )
    free(wanted)
    if status == NO_MEMORY:
        raise MemoryError
    if status != OK:
        raise TypeError(f"a key column of {batch.schema!r} has a type that cannot be hashed")
    return out


def hash_rows(batch, columns):
    return _run_hash(batch, columns, NULL, 0, True)


def assign(batch, columns, destination_of):
    cdef const uint16_t[::1] table = destination_of
    if not 1 <= table.shape[0] <= 65536:
        raise ValueError(f"{table.shape[0]!r} key groups; 1 to 65536 are possible")
    return _run_hash(batch, columns, &table[0], table.shape[0], False)


def counting_sort(destinations, n_destinations):
    cdef int64_t n_rows = destinations.size // 2
    cdef int64_t n = n_destinations
    cdef const uint16_t* source = <const uint16_t*><size_t>destinations.address
    cdef uint32_t* cursor
    cdef uint32_t* order
    cdef uint32_t* target
    cdef uint32_t total = 0, at
    cdef int64_t i
    cdef uint16_t highest = 0
    if n_rows >= 1 << 32:
        raise ValueError(f"{n_rows!r} rows; at most 2**32 - 1 can be sorted at once")
    order_buffer = pa.allocate_buffer(4 * n_rows)
    target_buffer = pa.allocate_buffer(4 * n_rows)
    order = <uint32_t*>writable(order_buffer)
    target = <uint32_t*>writable(target_buffer)
    cursor = <uint32_t*>calloc(n + 1, 4)
    if cursor == NULL:
        raise MemoryError
    with nogil:
        for i in range(n_rows):
            highest = source[i] if source[i] > highest else highest
        if highest < n or n_rows == 0:
            for i in range(n_rows):
                cursor[source[i]] += 1
    if highest >= n and n_rows > 0:
        free(cursor)
        raise ValueError(f"a row has destination {highest!r} of {n_destinations!r}")
    bounds = [0] * (n + 1)
    for i in range(n):
        at = cursor[i]
        cursor[i] = total
        total += at
        bounds[i + 1] = total
    with nogil:
        for i in range(n_rows):
            at = cursor[source[i]]
            cursor[source[i]] = at + 1
            order[at] = <uint32_t>i
            target[i] = at
    free(cursor)
    return bounds, order_buffer, target_buffer
