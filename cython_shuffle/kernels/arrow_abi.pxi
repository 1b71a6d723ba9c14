# The structs of the Arrow C data interface (arrow.apache.org/docs/format/CDataInterface.html) and how to reach them.

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the value hash reads little-endian words"
    #endif
    #ifndef ARROW_C_DATA_INTERFACE
    #define ARROW_C_DATA_INTERFACE
    struct ArrowSchema {
      const char* format;
      const char* name;
      const char* metadata;
      int64_t flags;
      int64_t n_children;
      struct ArrowSchema** children;
      struct ArrowSchema* dictionary;
      void (*release)(struct ArrowSchema*);
      void* private_data;
    };
    struct ArrowArray {
      int64_t length;
      int64_t null_count;
      int64_t offset;
      int64_t n_buffers;
      int64_t n_children;
      const void** buffers;
      struct ArrowArray** children;
      struct ArrowArray* dictionary;
      void (*release)(struct ArrowArray*);
      void* private_data;
    };
    #endif
    """
    struct ArrowSchema:
        const char* format
        int64_t n_children
        ArrowSchema** children
        ArrowSchema* dictionary

    struct ArrowArray:
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void** buffers
        ArrowArray** children
        ArrowArray* dictionary


cdef inline bint bit_at(const uint8_t* bits, int64_t i) noexcept nogil:
    return (bits[i >> 3] >> (i & 7)) & 1


cdef inline const uint8_t* validity_of(const ArrowArray* a) noexcept nogil:
    """The bitmap, or NULL where every slot is valid."""
    if a.null_count == 0 or a.n_buffers == 0:
        return NULL
    return <const uint8_t*>a.buffers[0]


cdef class _Export:
    """Holds a batch's capsules, and so its C structs, alive."""

    cdef object schema_capsule
    cdef object array_capsule
    cdef const ArrowSchema* schema
    cdef const ArrowArray* array

    def __cinit__(self, data):
        self.schema_capsule, self.array_capsule = data.__arrow_c_array__()
        self.schema = <const ArrowSchema*>PyCapsule_GetPointer(self.schema_capsule, "arrow_schema")
        self.array = <const ArrowArray*>PyCapsule_GetPointer(self.array_capsule, "arrow_array")


cdef inline void* writable(buffer) except NULL:
    # Arrow gives a zero-sized buffer some address too; one that nobody writes to
    return <void*><size_t>buffer.address
