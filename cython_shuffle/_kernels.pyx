# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""Whole-batch kernels over the Arrow C data interface: value hash, counting sort, gather.

Knows nothing of tasks or transport. ``_fallback.py`` is the same in plain Python, bit for bit.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport atoi, calloc, free, malloc
from libc.string cimport memcpy, memset, strchr

import pyarrow as pa

include "kernels/arrow_abi.pxi"
include "kernels/value_hash.pxi"
include "kernels/route.pxi"
include "kernels/gather.pxi"
