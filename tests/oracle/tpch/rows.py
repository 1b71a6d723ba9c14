"""The eight tables of TPC-H with rows of our own: small, deterministic, and such that every query finds some.

Rows are made by SQL from their numbers alone, so DuckDB and Sabot make the same from the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.oracle.fuzz.history import Change
from tests.oracle.fuzz.tables import Column, Table

_REGIONS = ("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")
_NATIONS = (
    *("ALGERIA", "ETHIOPIA", "KENYA", "MOROCCO", "MOZAMBIQUE"),
    *("ARGENTINA", "BRAZIL", "CANADA", "PERU", "UNITED STATES"),
    *("CHINA", "INDIA", "INDONESIA", "JAPAN", "VIETNAM"),
    *("FRANCE", "GERMANY", "ROMANIA", "RUSSIA", "UNITED KINGDOM"),
    *("EGYPT", "IRAN", "IRAQ", "JORDAN", "SAUDI ARABIA"),
)
_SEGMENTS = ("BUILDING", "AUTOMOBILE", "MACHINERY", "HOUSEHOLD", "FURNITURE")
_PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")
_MODES = ("MAIL", "SHIP", "AIR", "AIR REG", "TRUCK", "RAIL", "FOB")
_TYPES = (
    "PROMO BRUSHED STEEL",
    "ECONOMY ANODIZED STEEL",
    "MEDIUM POLISHED COPPER",
    "LARGE BURNISHED BRASS",
    "SMALL TIN",
)
_CONTAINERS = ("SM CASE", "MED BAG", "LG BOX", "MED BOX", "SM PKG", "LG CASE")
_BRANDS = ("Brand#12", "Brand#23", "Brand#34", "Brand#45")
_COLOURS = ("forest green", "almond", "green misty", "antique", "forest blue")
SUPPLIERS, PARTS, CUSTOMERS = 24, 60, 75


def _table(name: str, key: str, columns: str) -> Table:
    kept = [tuple(c.strip().split(" ", 1)) for c in columns.split(";")]
    return Table(name, tuple(Column(n, "", t) for n, t in kept), tuple(key.split()))


TABLES = {
    t.name: t
    for t in (
        _table("region", "r_regionkey", "r_regionkey INTEGER; r_name VARCHAR; r_comment VARCHAR"),
        _table("nation", "n_nationkey", "n_nationkey INTEGER; n_name VARCHAR; n_regionkey INTEGER; n_comment VARCHAR"),
        _table(
            "supplier",
            "s_suppkey",
            "s_suppkey INTEGER; s_name VARCHAR; s_address VARCHAR; s_nationkey INTEGER; s_phone VARCHAR;"
            "s_acctbal NUMERIC(15,2); s_comment VARCHAR",
        ),
        _table(
            "part",
            "p_partkey",
            "p_partkey INTEGER; p_name VARCHAR; p_mfgr VARCHAR; p_brand VARCHAR; p_type VARCHAR; p_size INTEGER;"
            "p_container VARCHAR; p_retailprice NUMERIC(15,2); p_comment VARCHAR",
        ),
        _table(
            "partsupp",
            "ps_partkey ps_suppkey",
            "ps_partkey INTEGER; ps_suppkey INTEGER; ps_availqty INTEGER; ps_supplycost NUMERIC(15,2);"
            "ps_comment VARCHAR",
        ),
        _table(
            "customer",
            "c_custkey",
            "c_custkey INTEGER; c_name VARCHAR; c_address VARCHAR; c_nationkey INTEGER; c_phone VARCHAR;"
            "c_acctbal NUMERIC(15,2); c_mktsegment VARCHAR; c_comment VARCHAR",
        ),
        _table(
            "orders",
            "o_orderkey",
            "o_orderkey BIGINT; o_custkey INTEGER; o_orderstatus VARCHAR; o_totalprice NUMERIC(15,2); o_orderdate DATE;"
            "o_orderpriority VARCHAR; o_clerk VARCHAR; o_shippriority INTEGER; o_comment VARCHAR",
        ),
        _table(
            "lineitem",
            "l_orderkey l_linenumber",
            "l_orderkey BIGINT; l_partkey INTEGER; l_suppkey INTEGER; l_linenumber INTEGER; l_quantity NUMERIC(15,2);"
            "l_extendedprice NUMERIC(15,2); l_discount NUMERIC(15,2); l_tax NUMERIC(15,2); l_returnflag VARCHAR;"
            "l_linestatus VARCHAR; l_shipdate DATE; l_commitdate DATE; l_receiptdate DATE; l_shipinstruct VARCHAR;"
            "l_shipmode VARCHAR; l_comment VARCHAR",
        ),
    )
}


@dataclass(frozen=True)
class _Number:
    """Numbers that look random and follow from `row` alone."""

    row: str

    def below(self, salt: int, bound: int) -> str:
        return f"((({self.row}) * 48271 + {salt * 7919 + 11}) % 2147483647 * {salt * 2 + 3} // 97 % {bound})"

    def one_of(self, salt: int, words: Sequence[str]) -> str:
        return f"[{', '.join(repr(w) for w in words)}][1 + {self.below(salt, len(words))}]"

    def day(self, salt: int) -> str:
        return f"(DATE '1992-01-01' + CAST({self.below(salt, 2400)} AS INTEGER))"

    def money(self, salt: int, low: int, high: int) -> str:
        return f"({low} + {self.below(salt, (high - low) * 100)} / 100.0)::NUMERIC(15,2)"


def first_rows() -> list[Change]:
    """Return the INSERTs of all but orders and their lines."""
    i = _Number("i")
    regions = f"[{', '.join(map(repr, _REGIONS))}]"
    nations = f"[{', '.join(map(repr, _NATIONS))}]"
    phone = f"(10 + {i.below(1, 25)}) || '-' || (100 + i) || '-555'"
    return [
        _insert("region", f"i, {regions}[i + 1], 'where ' || i", 5),
        _insert("nation", f"i, {nations}[i + 1], i // 5, 'people ' || i", 25),
        _insert(
            "supplier",
            f"i, 'Supplier#' || i, 'address ' || i, i % 25, {phone}, {i.money(2, -500, 5000)}, "
            f"{i.one_of(3, ('quick', 'Customer has Complaints', 'none', 'slow'))}",
            SUPPLIERS,
        ),
        _insert(
            "part",
            f"i, {i.one_of(4, _COLOURS)} || ' ' || i, 'Manufacturer#' || (1 + i % 5), {i.one_of(5, _BRANDS)}, "
            f"{i.one_of(6, _TYPES)}, 1 + {i.below(7, 16)}, {i.one_of(8, _CONTAINERS)}, 900 + i, 'part ' || i",
            PARTS,
        ),
        _insert(
            "partsupp",
            f"i // 4, (i // 4 * 3 + i % 4 * 7) % {SUPPLIERS}, 1 + {i.below(9, 9000)}, {i.money(10, 1, 900)}, ''",
            PARTS * 4,
        ),
        _insert(
            "customer",
            f"i, 'Customer#' || i, 'address ' || i, i * 7 % 25, {phone}, {i.money(11, -900, 9000)}, "
            f"{i.one_of(12, _SEGMENTS)}, 'customer ' || i",
            CUSTOMERS,
        ),
    ]


def new_orders(start: int, count: int) -> list[Change]:
    """Return the INSERTs of orders and their one to seven lines: TPC-H's first refresh function."""
    i, line = _Number("i"), _Number("(i * 7 + n)")
    ordered = i.day(21)
    orders = (
        f"SELECT i, {i.below(20, CUSTOMERS - 15)}, {i.one_of(22, ('F', 'O', 'P'))}, {i.money(23, 1000, 400000)}, "
        f"{ordered}, {i.one_of(24, _PRIORITIES)}, 'Clerk#' || {i.below(25, 20)}, 0, "
        f"{i.one_of(26, ('usual', 'special packages requests', 'late', 'special needs'))} "
        f"FROM range({start}, {start + count}) AS r(i)"
    )
    shipped = f"({ordered} + CAST(1 + {line.below(31, 120)} AS INTEGER))"
    supplier = f"({line.below(32, PARTS)} * 3 + {line.below(33, 4)} * 7) % {SUPPLIERS}"
    lines = (
        f"SELECT i, {line.below(32, PARTS)}, {supplier}, n, 1 + {line.below(34, 50)}, {line.money(35, 900, 90000)}, "
        f"{line.below(36, 11)} / 100.0, {line.below(37, 9)} / 100.0, {line.one_of(38, ('R', 'A', 'N'))}, "
        f"{line.one_of(39, ('F', 'O'))}, {shipped}, {ordered} + CAST(30 + {line.below(40, 61)} AS INTEGER), "
        f"{shipped} + CAST(1 + {line.below(41, 30)} AS INTEGER), "
        f"{line.one_of(42, ('DELIVER IN PERSON', 'NONE', 'COLLECT COD'))}, {line.one_of(43, _MODES)}, '' "
        f"FROM range({start}, {start + count}) AS r(i), range(1, 8) AS s(n) WHERE n <= 1 + {i.below(44, 7)}"
    )
    return [
        Change(TABLES["orders"], f"INSERT INTO orders {orders}"),
        Change(TABLES["lineitem"], f"INSERT INTO lineitem {lines}"),
    ]


def gone_orders(start: int, count: int) -> list[Change]:
    """Return the DELETEs of orders and their lines: TPC-H's second refresh function."""
    return [
        Change(TABLES[table], f"DELETE FROM {table} WHERE {key} >= {start} AND {key} < {start + count}")
        for table, key in (("lineitem", "l_orderkey"), ("orders", "o_orderkey"))
    ]


def changed_rows() -> list[Change]:
    """Return UPDATEs that reach into every query."""
    texts = {
        "lineitem": "UPDATE lineitem SET l_quantity = l_quantity + 3, l_discount = 0.06 WHERE l_orderkey % 5 = 0",
        "orders": "UPDATE orders SET o_orderstatus = 'F', o_orderpriority = '1-URGENT' WHERE o_orderkey % 7 = 1",
        "part": "UPDATE part SET p_size = 15, p_type = 'SMALL BRASS' WHERE p_partkey % 6 = 2",
        "partsupp": "UPDATE partsupp SET ps_supplycost = ps_supplycost / 2 WHERE ps_partkey % 4 = 1",
        "supplier": "UPDATE supplier SET s_nationkey = 7, s_comment = 'none' WHERE s_suppkey % 5 = 0",
        "customer": "UPDATE customer SET c_acctbal = c_acctbal - 9, c_mktsegment = 'BUILDING' WHERE c_custkey % 4 = 3",
        "nation": "UPDATE nation SET n_name = 'SAUDI ARABIA' WHERE n_nationkey = 3",
    }
    return [Change(TABLES[name], text) for name, text in texts.items()]


def _insert(table: str, items: str, count: int) -> Change:
    return Change(TABLES[table], f"INSERT INTO {table} SELECT {items} FROM range({count}) AS r(i)")
