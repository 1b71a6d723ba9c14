# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False, autotestdict=False
"""NEXMark events as Arrow columns or as lines of JSON, without the GIL.

The rules stand in kernels/nexmark.h; which events a task makes, and when, is the connector's.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

import pyarrow as pa

from sabotd.formats.plan import Kind

include "kernels/columns.pxi"

cdef extern from "kernels/nexmark.h" nogil:
    ctypedef struct nx_rules:
        uint64_t seed
        int64_t start_ms
        int64_t event_rate
    enum:
        NX_PERSON
        NX_AUCTION
        NX_BID
        NX_FIRST_ID
        NX_INITIAL
        NX_RESERVE
        NX_PRICE
        NX_CATEGORY
    uint64_t nx_random(const nx_rules* r, int64_t n, int use)
    int64_t nx_below(uint64_t random, int64_t bound)
    int nx_type(int64_t n)
    int64_t nx_time_ms(const nx_rules* r, int64_t n)
    int64_t nx_last_person(int64_t n)
    int64_t nx_last_auction(int64_t n)
    int64_t nx_price(const nx_rules* r, int64_t n, int use)
    int64_t nx_seller(const nx_rules* r, int64_t n)
    int64_t nx_expires_ms(const nx_rules* r, int64_t n)
    int64_t nx_bid_auction(const nx_rules* r, int64_t n)
    int64_t nx_bidder(const nx_rules* r, int64_t n)
    int nx_name(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_email(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_card(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_city(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_state(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_item(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_description(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_channel(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_url(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_person_extra(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_auction_extra(const nx_rules* r, int64_t n, uint8_t* out)
    int nx_extra(const nx_rules* r, int64_t n, int size, int wanted, uint8_t* out)
    int nx_json(const nx_rules* r, int64_t n, uint8_t* out)

cdef enum:
    ROOM = 2048  # the longest text, and the longest line, are shorter

cdef enum Value:
    V_EVENT_TYPE
    V_TIME
    V_PERSON_ID
    V_PERSON_NAME
    V_PERSON_EMAIL
    V_PERSON_CARD
    V_PERSON_CITY
    V_PERSON_STATE
    V_PERSON_EXTRA
    V_AUCTION_ID
    V_AUCTION_ITEM
    V_AUCTION_DESCRIPTION
    V_AUCTION_INITIAL
    V_AUCTION_RESERVE
    V_AUCTION_EXPIRES
    V_AUCTION_SELLER
    V_AUCTION_CATEGORY
    V_AUCTION_EXTRA
    V_BID_AUCTION
    V_BID_BIDDER
    V_BID_PRICE
    V_BID_CHANNEL
    V_BID_URL
    V_BID_EXTRA

_TABLES = ("person", "auction", "bid")
_VALUES = {
    ("person", "id"): V_PERSON_ID,
    ("person", "name"): V_PERSON_NAME,
    ("person", "email_address"): V_PERSON_EMAIL,
    ("person", "credit_card"): V_PERSON_CARD,
    ("person", "city"): V_PERSON_CITY,
    ("person", "state"): V_PERSON_STATE,
    ("person", "date_time"): V_TIME,
    ("person", "extra"): V_PERSON_EXTRA,
    ("auction", "id"): V_AUCTION_ID,
    ("auction", "item_name"): V_AUCTION_ITEM,
    ("auction", "description"): V_AUCTION_DESCRIPTION,
    ("auction", "initial_bid"): V_AUCTION_INITIAL,
    ("auction", "reserve"): V_AUCTION_RESERVE,
    ("auction", "date_time"): V_TIME,
    ("auction", "expires"): V_AUCTION_EXPIRES,
    ("auction", "seller"): V_AUCTION_SELLER,
    ("auction", "category"): V_AUCTION_CATEGORY,
    ("auction", "extra"): V_AUCTION_EXTRA,
    ("bid", "auction"): V_BID_AUCTION,
    ("bid", "bidder"): V_BID_BIDDER,
    ("bid", "price"): V_BID_PRICE,
    ("bid", "channel"): V_BID_CHANNEL,
    ("bid", "url"): V_BID_URL,
    ("bid", "date_time"): V_TIME,
    ("bid", "extra"): V_BID_EXTRA,
    (None, "event_type"): V_EVENT_TYPE,
    (None, "date_time"): V_TIME,
}


cdef int64_t whole(const nx_rules* r, int64_t n, int value) noexcept nogil:
    """Return a value that is a number; times in microseconds."""
    if value == V_TIME:
        return nx_time_ms(r, n) * 1000
    if value == V_BID_AUCTION:
        return nx_bid_auction(r, n)
    if value == V_BID_BIDDER:
        return nx_bidder(r, n)
    if value == V_BID_PRICE:
        return nx_price(r, n, NX_PRICE)
    if value == V_EVENT_TYPE:
        return nx_type(n)
    if value == V_PERSON_ID:
        return NX_FIRST_ID + nx_last_person(n)
    if value == V_AUCTION_ID:
        return NX_FIRST_ID + nx_last_auction(n)
    if value == V_AUCTION_INITIAL:
        return nx_price(r, n, NX_INITIAL)
    if value == V_AUCTION_RESERVE:
        return nx_price(r, n, NX_INITIAL) + nx_price(r, n, NX_RESERVE)
    if value == V_AUCTION_EXPIRES:
        return nx_expires_ms(r, n) * 1000
    if value == V_AUCTION_SELLER:
        return nx_seller(r, n)
    return 10 + nx_below(nx_random(r, n, NX_CATEGORY), 5)


cdef int text(const nx_rules* r, int64_t n, int value, uint8_t* out) noexcept nogil:
    """Write a value that is a text; returns its length."""
    if value == V_BID_EXTRA:
        return nx_extra(r, n, 32, 100, out)
    if value == V_BID_CHANNEL:
        return nx_channel(r, n, out)
    if value == V_BID_URL:
        return nx_url(r, n, out)
    if value == V_PERSON_NAME:
        return nx_name(r, n, out)
    if value == V_PERSON_EMAIL:
        return nx_email(r, n, out)
    if value == V_PERSON_CARD:
        return nx_card(r, n, out)
    if value == V_PERSON_CITY:
        return nx_city(r, n, out)
    if value == V_PERSON_STATE:
        return nx_state(r, n, out)
    if value == V_PERSON_EXTRA:
        return nx_person_extra(r, n, out)
    if value == V_AUCTION_ITEM:
        return nx_item(r, n, out)
    if value == V_AUCTION_DESCRIPTION:
        return nx_description(r, n, out)
    return nx_auction_extra(r, n, out)


cdef bint fill(Column* column, const nx_rules* r, const int64_t* events, int64_t n_events, int table) noexcept nogil:
    """Append the column's value of each event, NULL where the event is not of `table` (-1: any is)."""
    cdef int64_t i, n
    cdef int k
    cdef uint8_t* out
    cdef int inner
    if column.kind == K_STRUCT:
        inner = column.id
        for k in range(column.n_children):
            if not fill(column.children[k], r, events, n_events, inner):
                return False
        for i in range(n_events):
            if not reserve(column):
                return False
            if nx_type(events[i]) == inner:
                commit(column)
            else:
                column.length += 1
        return True
    for i in range(n_events):
        n = events[i]
        if table >= 0 and nx_type(n) != table:
            if not append_null(column):
                return False
            continue
        if not reserve(column):
            return False
        if column.width:
            (<int64_t*>column.data)[column.length] = whole(r, n, column.id)
            commit(column)
        else:
            out = heap_room(column, ROOM)
            if out == NULL:
                return False
            commit_heap(column, text(r, n, column.id, out))
    return True


cdef int set_values(Column* column, object plan, object table) except -1:
    """Give each column the number of its value, each STRUCT that of its table."""
    cdef int i
    if plan.kind == Kind.STRUCT:
        column.id = _TABLES.index(plan.name)
        for i, child in enumerate(plan.children):
            set_values(column.children[i], child, plan.name)
        return 0
    column.id = _VALUES[table, plan.name]
    return 0


cdef class Generator:
    """Makes the columns of a plan for any events.

    Parameters
    ----------
    plans : tuple of ColumnPlan
        Columns of `table`, or of the table that has all three as STRUCTs.
    table : str or None
        person, auction or bid.
    seed : int
    start_ms : int
        Event time of event 0, milliseconds since 1970.
    event_rate : int
        Events a second of event time.
    """

    cdef nx_rules rules
    cdef tuple plans
    cdef Column** columns
    cdef int n_columns

    def __cinit__(self, tuple plans, object table, object seed, int64_t start_ms, int64_t event_rate):
        cdef int i
        self.rules.seed = seed & 0xffffffffffffffff
        self.rules.start_ms = start_ms
        self.rules.event_rate = event_rate
        self.plans = plans
        self.columns = <Column**>calloc(len(plans) + 1, sizeof(Column*))
        if self.columns == NULL:
            raise MemoryError
        for i, plan in enumerate(plans):
            self.columns[i] = make_column(plan, [], "")
            self.n_columns = i + 1
            set_values(self.columns[i], plan, table)

    def __dealloc__(self):
        cdef int i
        if self.columns != NULL:
            for i in range(self.n_columns):
                free_column(self.columns[i])
        free(self.columns)

    def arrays(self, const int64_t[::1] events not None):
        """Return an array a column with a row for each event number of `events`."""
        cdef int64_t n = events.shape[0]
        cdef const int64_t* at = &events[0] if n else NULL
        cdef bint done = True
        cdef int i
        with nogil:
            for i in range(self.n_columns):
                done = fill(self.columns[i], &self.rules, at, n, -1)
                if not done:
                    break
        if not done:
            for i in range(self.n_columns):
                free_buffers(self.columns[i])
            raise MemoryError
        return [finish(self.columns[i], plan) for i, plan in enumerate(self.plans)]

    def json_lines(self, int64_t first, int64_t last):
        """Return events `first` to `last` - 1 as newline-ended JSON, in one Arrow buffer."""
        cdef Column lines
        cdef int64_t n
        cdef uint8_t* out = NULL
        memset(&lines, 0, sizeof(lines))
        with nogil:
            for n in range(first, last):
                out = heap_room(&lines, ROOM)
                if out == NULL:
                    break
                lines.heap_length += nx_json(&self.rules, n, out)
        if last > first and out == NULL:
            free(lines.heap)
            raise MemoryError
        return hand_over(lines.heap, lines.heap_length)
