"""The nexmark source: the same events however they are cut, in the right proportions, in time with a rate."""

import threading
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.task_spec import ColumnSpec, SourceOp
from sabot.errors import SqlError
from sabotd.connectors import registry
from sabotd.connectors.generated import Stripes
from sabotd.connectors.nexmark import CONNECTOR, NexmarkReader, make_generator, table_columns, write_ndjson
from sabotd.formats.decode import make_decoder

ALL = table_columns(None)


def source(columns=ALL, **options):
    return SourceOp("n", "nexmark", {"connector": "nexmark", **options}, None, columns, columns)


def read_all(op, parallelism=1, max_rows=1000):
    batches = []
    for index in range(parallelism):
        reader = CONNECTOR.open_source(op, index, parallelism)
        while not reader.finished():
            got = reader.read(max_rows, 0)
            if got is not None:
                assert got.batch.num_rows <= max(max_rows, 50)
                batches.append(got.batch)
        assert reader.position() == reader.fence()
        reader.close()
    return pa.Table.from_batches(batches)


def keyed(table):
    return sorted(table.to_pylist(), key=repr)


@pytest.mark.parametrize("table", ["person", "auction", "bid", "all"])
def test_any_cut_and_parallelism_gives_the_same_rows(table):
    columns = CONNECTOR.default_schema({"table": table})
    whole = keyed(read_all(source(columns, table=table, events="1234", seed="5")))
    for parallelism, max_rows, splits in ((1, 7, {}), (3, 100, {}), (4, 33, {"splits": "6"}), (5, 64, {"splits": "2"})):
        op = source(columns, table=table, events="1234", seed="5", **splits)
        assert keyed(read_all(op, parallelism, max_rows)) == whole
    assert keyed(read_all(source(columns, table=table, events="1234", seed="6"))) != whole


@given(st.integers(1, 60), st.integers(1, 5), st.data())
def test_stripes_give_their_numbers(block, splits, data):
    place = data.draw(st.integers(0, splits - 1))
    first = data.draw(st.integers(0, 300))
    last = first + data.draw(st.integers(0, 300))
    low = data.draw(st.integers(0, block - 1))
    within = range(low, data.draw(st.integers(low + 1, block)))
    stripes = Stripes(block, splits)
    wanted = [stripes.number(place, own) for own in range(first, last)]
    given = stripes.numbers(place, first, last)
    assert given.dtype == np.int64
    assert given.tolist() == wanted
    assert stripes.numbers(place, first, last, within).tolist() == [n for n in wanted if n % block in within]


def test_proportions_and_ids():
    rows = read_all(source(events="5000")).to_pylist()
    assert Counter(r["event_type"] for r in rows) == {0: 100, 1: 300, 2: 4600}
    for row in rows:
        kinds = [row["person"] is not None, row["auction"] is not None, row["bid"] is not None]
        assert kinds == [row["event_type"] == i for i in range(3)]
        assert row["date_time"] == (row["person"] or row["auction"] or row["bid"])["date_time"]
    assert [r["person"]["id"] for r in rows if r["person"]] == list(range(1000, 1100))
    assert [r["auction"]["id"] for r in rows if r["auction"]] == list(range(1000, 1300))


def test_keys_are_skewed_and_refer_to_what_is_or_will_soon_be_there():
    bids = read_all(source(table_columns("bid"), table="bid", events="200000")).to_pandas()
    hot_auction = (bids.auction % 100 == 0).mean()
    hot_bidder = (bids.bidder % 100 == 1).mean()
    assert 0.45 < hot_auction < 0.56
    assert 0.7 < hot_bidder < 0.8
    assert bids.auction.max() <= 1000 + 200_000 // 50 * 3 + 10
    assert bids.price.between(100, 100_000_000).all()
    assert 0.45 < bids.channel.isin(["Google", "Facebook", "Baidu", "Apple"]).mean() < 0.55
    # a channel has one url
    assert bids.groupby("channel").url.nunique().max() == 1
    assert bids.extra.str.len().min() >= 54
    assert bids.extra.str.len().max() < 82
    auctions = read_all(source(table_columns("auction"), table="auction", events="20000")).to_pandas()
    assert (auctions.expires > auctions.date_time).all()
    assert (auctions.reserve > auctions.initial_bid).all()
    assert auctions.category.between(10, 14).all()


def test_event_time_follows_the_event_number_in_every_split():
    op = source(table_columns("bid"), table="bid", events="20000", start_time="2026-01-01 00:00:00", event_rate="1000")
    ends = []
    for index in range(2):
        reader = CONNECTOR.open_source(op, index, 2)
        times = reader.read(4600, 0).batch.column("date_time").cast(pa.int64()).to_numpy()
        assert (np.diff(times) >= 0).all()
        ends.append(times[-1])
    # after as many rows, both stripes have come as far
    assert abs(ends[0] - ends[1]) <= 100_000
    assert str(pa.scalar(int(ends[0]), pa.timestamp("us"))).startswith("2026-01-01 00:00:0")


def test_pruned_columns_are_the_same_values():
    pruned = (ColumnSpec("bid", "STRUCT(price BIGINT, auction BIGINT)"), ColumnSpec("event_type", "BIGINT"))
    registry.check(source(pruned, events="200"))
    CONNECTOR.validate(source(pruned, events="200"))
    full = read_all(source(events="200")).to_pylist()
    for got, whole in zip(read_all(source(pruned, events="200")).to_pylist(), full, strict=True):
        assert got["event_type"] == whole["event_type"]
        assert got["bid"] == (whole["bid"] and {k: whole["bid"][k] for k in ("price", "auction")})
    assert read_all(source((), events="200")).num_rows == 200


def test_lines_of_json_are_the_same_events(tmp_path):
    one, two = tmp_path / "1.ndjson", tmp_path / "2.ndjson"
    size = write_ndjson(one, 70_000, {"seed": "3"})
    assert size == write_ndjson(two, 70_000, {"seed": "3"}, threads=1) == one.stat().st_size
    data = one.read_bytes()
    assert data == two.read_bytes()
    assert 325 < size / 70_000 < 345
    columns = ALL[:-1]
    decoded = make_decoder("json", columns, columns, {}).decode_buffer(data).batch
    wanted = make_generator(columns, {"seed": "3"}).arrays(np.arange(70_000))
    assert all(a.equals(b) for a, b in zip(decoded.columns, wanted, strict=True))


def test_a_position_goes_on_where_it_stood():
    op = source(table_columns("bid"), table="bid", events="3000")
    reader = CONNECTOR.open_source(op, 1, 2)
    first = [reader.read(300, 0).batch for _ in range(3)]
    again = CONNECTOR.open_source(op, 1, 2)
    again.seek(reader.position())
    rest = []
    while not again.finished():
        rest.append(again.read(10_000, 0).batch)
    whole = CONNECTOR.open_source(op, 1, 2).read(10_000, 0).batch
    assert pa.Table.from_batches([*first, *rest]).combine_chunks().to_batches()[0].equals(whole)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_rate_is_over_all_tasks_and_smooth():
    clock = Clock()
    op = source(rate="1000")
    readers = [NexmarkReader(op, i, 2, clock=clock) for i in range(2)]
    given = 0
    for _ in range(200):
        clock.now += 0.011
        for reader in readers:
            got = reader.read(100_000, 0)
            # a step of 11 ms is 11 events; each stripe has whole cycles of 50
            assert got is None or got.batch.num_rows <= 60
            given += got.batch.num_rows if got else 0
    assert abs(given - 2200) <= 30
    assert not readers[0].finished()
    assert sum(sum(r.fence().values()) for r in readers) == pytest.approx(2200, abs=2)


def test_event_time_moves_as_the_rate_unless_told():
    def last_ms(**options):
        rows = read_all(source((ColumnSpec("date_time", "TIMESTAMP"),), events="101", **options))
        return rows.column(0).cast(pa.int64()).to_pylist()[-1] - 1_436_918_400_000_000

    assert last_ms() == 10_000
    assert last_ms(rate="100000") == 1_000
    assert last_ms(rate="100000", event_rate="100") == 1_000_000


def test_a_waiting_read_is_woken():
    reader = CONNECTOR.open_source(source(rate="1"), 0, 1)
    assert reader.read(10, 0).batch.num_rows == 1
    thread = threading.Thread(target=lambda: (time.sleep(0), reader.wake()))
    thread.start()
    assert reader.read(10, 60) is None
    thread.join()


@pytest.mark.parametrize(("columns", "options", "match"), [
    ((ColumnSpec("bidd", "BIGINT"),), {}, "no column 'bidd'"),
    ((ColumnSpec("event_type", "VARCHAR"),), {}, "is BIGINT, not VARCHAR"),
    ((ColumnSpec("bid", "STRUCT(x BIGINT)"),), {}, "column 'bid'"),
    (ALL, {"start_time": "soon"}, "'start_time' is 'soon'"),
    (ALL, {"events": "-1"}, "at least 0"),
])  # fmt: skip
def test_what_is_wrong_is_said_at_create(columns, options, match):
    with pytest.raises(SqlError, match=match):
        CONNECTOR.validate(source(columns, **options))
