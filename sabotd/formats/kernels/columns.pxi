# Columns that grow: C buffers in Arrow's layout, handed to Arrow as they are.

ctypedef const uint8_t* Text

cdef extern from "kernels/scan.h" nogil:
    ctypedef struct sb_key:
        int child
    bint sb_is_space(uint8_t c)
    Text sb_skip_space(Text p, Text end)
    Text sb_string_end(Text p, Text end, Text lim, int* flags)
    Text sb_string_skip(Text p, Text end, Text lim)
    Text sb_token_end(Text p, Text end)
    Text sb_value_skip(Text p, Text end, Text lim)
    Text sb_field_end(Text p, Text end, Text lim, uint8_t delimiter)
    bint sb_is_number(Text p, Text end)
    bint sb_is_word(Text p, Text end, const char* word, Py_ssize_t length)
    bint sb_is_utf8(Text p, Text end)
    Py_ssize_t sb_unescape(Text p, Text end, uint8_t* out)
    void sb_key_learn(sb_key* key, Text text, Py_ssize_t length, int child)
    bint sb_key_match(const sb_key* key, Text p, Text end, Text lim)
    int SB_ESCAPED
    int SB_NON_ASCII
    int SB_CONTROL

cdef extern from "kernels/convert.h" nogil:
    """
    static inline void sb_store128(uint8_t *at, sb_int128 v) { memcpy(at, &v, 16); }
    static inline int sb_fits(sb_int128 v, int precision) {
        sb_int128 most = 1;
        for (int i = 0; i < precision; i++) most *= 10;
        return v < most && v > -most;
    }
    static inline int sb_within(sb_int128 v, int width, int is_signed) {
        int bits = width * 8;
        sb_int128 one = 1;
        if (is_signed) return v >= -(one << (bits - 1)) && v < (one << (bits - 1));
        return v >= 0 && v < (one << bits);
    }
    """
    ctypedef int sb_int128  # 16 bytes in truth; Cython only passes it on
    ctypedef struct sb_date_cache:
        int set
    bint sb_convert_init()
    bint sb_short_int(Text p, Text end, int64_t* out)
    bint sb_fixed(Text p, Text end, int scale, bint exact, sb_int128* out)
    bint sb_double(Text p, Text end, bint single, double* out)
    bint sb_date(Text p, Text end, sb_date_cache* cache, int64_t* days)
    Text sb_clock(Text p, Text end, int64_t* seconds, int64_t* nanos)
    bint sb_timestamp(Text p, Text end, sb_date_cache* cache, int64_t* seconds, int64_t* nanos)
    bint sb_timestamp_ticks(int64_t seconds, int64_t nanos, int64_t ticks, int64_t* out)
    bint sb_epoch(Text p, Text end, int64_t ticks, int64_t* out)
    void sb_store128(uint8_t* at, sb_int128 v)
    bint sb_fits(sb_int128 v, int precision)
    bint sb_within(sb_int128 v, int width, bint is_signed)

# the numbers of sabotd.formats.plan.Kind
cdef enum:
    K_BOOLEAN = 0
    K_INT = 1
    K_UINT = 2
    K_FLOAT = 3
    K_DOUBLE = 4
    K_DECIMAL = 5
    K_VARCHAR = 6
    K_BLOB = 7
    K_JSON = 8
    K_UUID = 9
    K_DATE = 10
    K_TIME = 11
    K_TIMESTAMP = 12
    K_STRUCT = 13
    K_LIST = 14

# why a record is bad; the texts are in decoder.pxi
cdef enum:
    E_NONE = 0
    E_MEMORY = 1
    E_JSON = 2
    E_NOT_OBJECT = 3
    E_VALUE = 4
    E_UTF8 = 5
    E_ESCAPE = 6
    E_CONTROL = 7
    E_FIELDS = 8
    E_QUOTE = 9
    E_PARTIAL = 10

cdef enum:
    MAX_KEYS = 256

cdef struct Column:
    int kind
    int width
    int precision
    int id
    int64_t scale
    int n_children
    Column** children
    char* name
    Py_ssize_t name_length
    int64_t length
    int64_t capacity
    uint8_t* valid
    uint8_t* data
    int32_t* offsets
    uint8_t* heap
    int64_t heap_length
    int64_t heap_capacity
    sb_key* keys
    int n_keys

cdef struct Bad:
    int64_t start
    int64_t end
    int64_t payload
    int code
    int column
    int64_t at
    int64_t at_length

cdef struct Context:
    Text begin
    Text end
    Text lim
    int code
    int column
    Text at
    Text at_end
    Text scratch_for
    uint8_t* scratch
    int64_t scratch_capacity
    sb_date_cache dates


cdef inline Text fail(Context* c, int code, Text at) noexcept nogil:
    """Note that the record's structure is broken at `at`; NULL ends the walk."""
    c.code = code
    c.column = -1
    c.at = at
    c.at_end = at
    return NULL


cdef inline void refuse(Context* c, int code, Column* column, Text at, Text end) noexcept nogil:
    """Note that a value does not fit its column; the walk goes on, the first one noted stays."""
    if c.code == E_NONE:
        c.code = code
        c.column = column.id
        c.at = at
        c.at_end = end


cdef bint grow(Column* column) noexcept nogil:
    cdef int64_t capacity = column.capacity * 2 if column.capacity else 1024
    cdef int64_t bits = capacity // 8, old_bits = column.capacity // 8
    cdef void* room = realloc(column.valid, bits)
    if room == NULL:
        return False
    column.valid = <uint8_t*>room
    memset(column.valid + old_bits, 0, bits - old_bits)
    if column.kind == K_BOOLEAN:
        room = realloc(column.data, bits)
        if room == NULL:
            return False
        column.data = <uint8_t*>room
        memset(column.data + old_bits, 0, bits - old_bits)
    elif column.width:
        room = realloc(column.data, capacity * column.width)
        if room == NULL:
            return False
        column.data = <uint8_t*>room
    elif column.kind != K_STRUCT:
        room = realloc(column.offsets, (capacity + 1) * 4)
        if room == NULL:
            return False
        column.offsets = <int32_t*>room
        if column.capacity == 0:
            column.offsets[0] = 0
    column.capacity = capacity
    return True


cdef inline bint reserve(Column* column) noexcept nogil:
    """Make room for one more row."""
    if column.length < column.capacity:
        return True
    return grow(column)


cdef inline uint8_t* heap_room(Column* column, int64_t more) noexcept nogil:
    """Return where `more` bytes of string can be written; NULL when memory is out."""
    cdef int64_t need = column.heap_length + more, capacity
    cdef void* room
    # also an empty string needs an address
    if need > column.heap_capacity or column.heap == NULL:
        capacity = column.heap_capacity * 2 if column.heap_capacity else 16384
        while capacity < need:
            capacity *= 2
        room = realloc(column.heap, capacity)
        if room == NULL:
            return NULL
        column.heap = <uint8_t*>room
        column.heap_capacity = capacity
    return column.heap + column.heap_length


cdef inline void commit(Column* column) noexcept nogil:
    """The value written at `length` stands."""
    cdef int64_t i = column.length
    column.valid[i >> 3] |= <uint8_t>(1 << (i & 7))
    column.length = i + 1


cdef inline void commit_heap(Column* column, int64_t used) noexcept nogil:
    column.heap_length += used
    column.offsets[column.length + 1] = <int32_t>column.heap_length
    commit(column)


cdef bint append_null(Column* column) noexcept nogil:
    cdef int i
    if not reserve(column):
        return False
    if column.kind == K_STRUCT:
        for i in range(column.n_children):
            if not append_null(column.children[i]):
                return False
    elif column.kind == K_LIST:
        column.offsets[column.length + 1] = <int32_t>column.children[0].length
    elif column.kind == K_BOOLEAN:
        pass
    elif column.width:
        memset(column.data + column.length * column.width, 0, column.width)
    else:
        column.offsets[column.length + 1] = <int32_t>column.heap_length
    column.length += 1
    return True


cdef void truncate(Column* column, int64_t length) noexcept nogil:
    """Forget the rows from `length` on."""
    cdef int64_t i
    cdef int k
    if column.length <= length:
        return
    if column.valid != NULL:
        for i in range(length, column.length):
            column.valid[i >> 3] &= <uint8_t>~(1 << (i & 7))
            if column.kind == K_BOOLEAN:
                column.data[i >> 3] &= <uint8_t>~(1 << (i & 7))
    if column.kind == K_STRUCT:
        for k in range(column.n_children):
            truncate(column.children[k], length)
    elif column.kind == K_LIST:
        truncate(column.children[0], column.offsets[length])
    elif not column.width:
        column.heap_length = column.offsets[length]
    column.length = length


cdef void roll_back(Column* column, int64_t length) noexcept nogil:
    """Forget the rows from `length` on, and what a value that broke off has left in the children."""
    cdef int i
    cdef Column* child
    cdef int64_t keep
    truncate(column, length)
    for i in range(column.n_children):
        child = column.children[i]
        keep = length
        if column.kind == K_LIST:
            keep = column.offsets[length] if column.capacity else 0
        roll_back(child, keep if child.length > keep else child.length)


cdef void free_buffers(Column* column) noexcept nogil:
    cdef int i
    free(column.valid)
    free(column.data)
    free(column.offsets)
    free(column.heap)
    column.valid = column.data = column.heap = NULL
    column.offsets = NULL
    column.length = column.capacity = column.heap_length = column.heap_capacity = 0
    for i in range(column.n_children):
        free_buffers(column.children[i])


cdef void free_column(Column* column) noexcept:
    cdef int i
    if column == NULL:
        return
    free(column.valid)
    free(column.data)
    free(column.offsets)
    free(column.heap)
    free(column.name)
    free(column.keys)
    for i in range(column.n_children):
        free_column(column.children[i])
    free(column.children)
    free(column)


cdef Column* make_column(object plan, list names, str path) except NULL:
    """Build the tree of a plan; `names` collects what errors call each column, by its id."""
    cdef Column* column = <Column*>calloc(1, sizeof(Column))
    cdef bytes name = plan.name.encode()
    cdef str full = path + "." + plan.name if path else plan.name
    cdef int i
    if column == NULL:
        raise MemoryError
    try:
        column.kind = plan.kind
        column.width = plan.width
        column.precision = plan.precision
        column.scale = plan.scale
        column.id = len(names)
        names.append((full, plan))
        column.name_length = len(name)
        column.name = <char*>malloc(len(name) + 1)
        if column.name == NULL:
            raise MemoryError
        memcpy(column.name, <const char*>name, len(name) + 1)
        if plan.children:
            column.children = <Column**>calloc(len(plan.children), sizeof(Column*))
            if column.children == NULL:
                raise MemoryError
            for i, child in enumerate(plan.children):
                column.children[i] = make_column(child, names, full)
                column.n_children = i + 1
    except BaseException:
        free_column(column)
        raise
    return column


cdef class _Memory:
    """Owns one malloc'd block for as long as an Arrow buffer points into it."""

    cdef void* block

    def __dealloc__(self):
        free(self.block)


cdef object hand_over(void* block, int64_t size):
    """Return an Arrow buffer over `block`, which it now owns; no copy."""
    cdef _Memory memory = _Memory()
    memory.block = block
    if block == NULL:
        return pa.py_buffer(b"")
    return pa.foreign_buffer(<uintptr_t>block, size, memory)


cdef object finish(Column* column, object plan):
    """Turn a column into an Arrow array and leave it empty; the buffers move."""
    cdef int64_t n = column.length, i, nulls
    cdef int k
    cdef bint any_null = False
    cdef list children = []
    if column.kind == K_STRUCT or column.kind == K_LIST:
        for k in range(column.n_children):
            children.append(finish(column.children[k], plan.children[k]))
    if n == 0:
        free_buffers(column)
        return pa.array([], plan.type)
    nulls = count_nulls(column)
    cdef list buffers = [None]
    if nulls:
        buffers[0] = hand_over(column.valid, (n + 7) // 8)
    else:
        free(column.valid)
    column.valid = NULL
    if column.kind == K_BOOLEAN:
        buffers.append(hand_over(column.data, (n + 7) // 8))
    elif column.width:
        buffers.append(hand_over(column.data, n * column.width))
    elif column.kind != K_STRUCT:
        buffers.append(hand_over(column.offsets, (n + 1) * 4))
        if column.kind != K_LIST:
            buffers.append(hand_over(column.heap, column.heap_length))
            column.heap = NULL
        column.offsets = NULL
    column.data = NULL
    column.length = column.capacity = column.heap_length = column.heap_capacity = 0
    return pa.Array.from_buffers(plan.type, n, buffers, nulls, 0, children or None)


cdef int64_t count_nulls(Column* column) noexcept nogil:
    cdef int64_t n = column.length, i, ones = 0
    cdef int64_t whole = n // 8
    for i in range(whole):
        ones += popcount(column.valid[i])
    if n & 7:
        ones += popcount(column.valid[whole] & <uint8_t>((1 << (n & 7)) - 1))
    return n - ones


cdef extern from * nogil:
    int popcount "__builtin_popcount"(unsigned int bits)
