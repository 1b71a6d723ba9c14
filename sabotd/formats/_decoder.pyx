# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False, autotestdict=False
"""Records as text (JSON, CSV) into Arrow arrays, without the GIL and without an object a value.

The spine: kernels/columns.pxi holds the growing columns, values.pxi turns text into values, json.pxi and csv.pxi walk
the records. ``_fallback.py`` is the plain twin that tests compare with.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

import pyarrow as pa

include "kernels/columns.pxi"
include "kernels/values.pxi"
include "kernels/json.pxi"
include "kernels/csv.pxi"
include "kernels/decoder.pxi"
