"""The metadata commands of Flight SQL, answered from the engine's list of relations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pyarrow as pa
from google.protobuf.message import Message

from sabot import __version__
from sabot.flight_sql import flight_sql_pb2 as pb
from sabot.flight_sql import schemas
from sabotd.engine import TableInfo

CATALOG = "sabot"
TABLE_TYPES = ("MATERIALIZED VIEW", "SINK", "SOURCE", "SYSTEM TABLE", "TABLE", "VIEW")

# numbers of the protocol's SqlInfo
_SQL_INFO: dict[int, object] = {
    0: "Sabot",
    1: __version__,
    2: pa.__version__,
    3: False,  # read only
    4: True,  # SQL
    5: False,  # Substrait
    8: 0,  # transactions: none
    9: True,  # cancelling
    10: True,  # bulk ingest
    11: False,  # ingest inside a transaction
    100: 0,  # prepared statements end with their session
    101: 0,
    500: False,  # DDL of catalogs
    501: False,  # DDL of schemas
    502: True,  # DDL of tables
    503: 3,  # unquoted identifiers are folded to lower case
    504: '"',
    505: 1,
    506: False,  # sinks and sources cannot be selected from
    507: 3,  # NULLs sort at the end
    513: "\\",
    515: True,  # column aliases
    529: "schema",
    531: "catalog",
    574: False,  # named parameters
}

# type name, SQL data type by ODBC's number, column size, literal quote, searchable, unsigned, datetime subcode, radix
_TYPES: tuple[tuple[str, int, int | None, str | None, bool | None, int | None, int | None], ...] = (
    ("BOOLEAN", -7, 1, None, None, None, None),
    ("TINYINT", -6, 3, None, False, None, 10),
    ("BIGINT", -5, 19, None, False, None, 10),
    ("BLOB", -3, None, "'", None, None, None),
    ("DECIMAL", 3, 38, None, False, None, 10),
    ("INTEGER", 4, 10, None, False, None, 10),
    ("SMALLINT", 5, 5, None, False, None, 10),
    ("REAL", 7, 24, None, False, None, 2),
    ("DOUBLE", 8, 53, None, False, None, 2),
    ("VARCHAR", 12, None, "'", None, None, None),
    ("DATE", 91, 10, "'", None, 1, None),
    ("TIME", 92, 15, "'", None, 2, None),
    ("TIMESTAMP", 93, 26, "'", None, 3, None),
    ("TIMESTAMP WITH TIME ZONE", 93, 32, "'", None, 5, None),
)


def schema_of(command: Message) -> pa.Schema | None:
    """Return the schema of a metadata command's answer, or None for any other message."""
    match command:
        case pb.CommandGetSqlInfo():
            return schemas.SQL_INFO
        case pb.CommandGetXdbcTypeInfo():
            return schemas.XDBC_TYPES
        case pb.CommandGetCatalogs():
            return schemas.CATALOGS
        case pb.CommandGetDbSchemas():
            return schemas.DB_SCHEMAS
        case pb.CommandGetTables():
            return schemas.TABLES_WITH_SCHEMA if command.include_schema else schemas.TABLES
        case pb.CommandGetTableTypes():
            return schemas.TABLE_TYPES
        case pb.CommandGetPrimaryKeys():
            return schemas.PRIMARY_KEYS
        case pb.CommandGetExportedKeys() | pb.CommandGetImportedKeys() | pb.CommandGetCrossReference():
            return schemas.FOREIGN_KEYS
        case _:
            return None


def answer(command: Message, relations: Callable[[], Sequence[TableInfo]]) -> pa.Table:
    """Return the rows of a metadata command; keys are not kept in the catalog, so theirs are none.

    `relations` is called only for what tells of them: it asks every agent.
    """
    match command:
        case pb.CommandGetSqlInfo():
            return _sql_info(list(command.info))
        case pb.CommandGetXdbcTypeInfo():
            return _types(command.data_type if command.HasField("data_type") else None)
        case pb.CommandGetCatalogs():
            return pa.table([[CATALOG]], schema=schemas.CATALOGS)
        case pb.CommandGetDbSchemas():
            names = sorted({r.schema for r in relations()} | {"public"})
            wanted = [n for n in names if _in_catalog(command) and _like(command, "db_schema_filter_pattern", n)]
            return pa.table([[CATALOG] * len(wanted), wanted], schema=schemas.DB_SCHEMAS)
        case pb.CommandGetTables():
            return _tables(command, relations())
        case pb.CommandGetTableTypes():
            return pa.table([list(TABLE_TYPES)], schema=schemas.TABLE_TYPES)
        case _:
            schema = schema_of(command)
            assert schema is not None
            return schema.empty_table()


def _tables(command: pb.CommandGetTables, relations: Sequence[TableInfo]) -> pa.Table:
    kinds = set(command.table_types)
    found = [
        r
        for r in relations
        if _in_catalog(command)
        and _like(command, "db_schema_filter_pattern", r.schema)
        and _like(command, "table_name_filter_pattern", r.name)
        and (not kinds or r.kind in kinds)
    ]
    found.sort(key=lambda r: (r.schema, r.name, r.kind))
    columns = [[CATALOG] * len(found), [r.schema for r in found], [r.name for r in found], [r.kind for r in found]]
    if not command.include_schema:
        return pa.table(columns, schema=schemas.TABLES)
    described = [_described(r).serialize().to_pybytes() for r in found]
    return pa.table([*columns, described], schema=schemas.TABLES_WITH_SCHEMA)


def _described(relation: TableInfo) -> pa.Schema:
    place = {
        "ARROW:FLIGHT:SQL:CATALOG_NAME": CATALOG,
        "ARROW:FLIGHT:SQL:DB_SCHEMA_NAME": relation.schema,
        "ARROW:FLIGHT:SQL:TABLE_NAME": relation.name,
    }
    return pa.schema([f.with_metadata({**_text_metadata(f), **place}) for f in relation.columns])


def _text_metadata(field: pa.Field) -> dict[str, str]:
    return {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}


def _in_catalog(command: pb.CommandGetTables | pb.CommandGetDbSchemas) -> bool:
    return not command.HasField("catalog") or command.catalog == CATALOG


def _like(command: Message, field: str, text: str) -> bool:
    """Whether `text` matches the SQL pattern in `field`; an absent pattern matches all."""
    if not command.HasField(field):
        return True
    pattern = getattr(command, field)
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    regex = "".join({"%": ".*", "_": "."}.get(p, re.escape(p[-1])) for p in parts)
    return re.fullmatch(regex, text, re.DOTALL) is not None


def _sql_info(wanted: Sequence[int]) -> pa.Table:
    unknown = [code for code in wanted if code not in _SQL_INFO]
    if unknown and len(unknown) == len(wanted):
        return schemas.SQL_INFO.empty_table()
    infos = {code: _SQL_INFO[code] for code in (wanted or _SQL_INFO) if code in _SQL_INFO}
    kinds, offsets = [], []
    children: list[list[object]] = [[] for _ in schemas.SQL_INFO_VALUE]
    for value in infos.values():
        # bitmasks and ordinals are int32, which the protocol keeps in one child
        child = 0 if isinstance(value, str) else 1 if isinstance(value, bool) else 3
        kinds.append(child)
        offsets.append(len(children[child]))
        children[child].append(value)
    union = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(c, f.type) for c, f in zip(children, schemas.SQL_INFO_VALUE, strict=True)],
        [f.name for f in schemas.SQL_INFO_VALUE],
    )
    return pa.Table.from_arrays([pa.array(list(infos), pa.uint32()), union], schema=schemas.SQL_INFO)


def _types(wanted: int | None) -> pa.Table:
    rows = [
        {
            "type_name": name,
            "data_type": number,
            "column_size": size,
            "literal_prefix": quote,
            "literal_suffix": quote,
            "create_params": ["precision", "scale"] if name == "DECIMAL" else None,
            "nullable": 1,
            "case_sensitive": name == "VARCHAR",
            "searchable": 3,
            "unsigned_attribute": unsigned,
            "fixed_prec_scale": False,
            "auto_increment": None,
            "local_type_name": name,
            "minimum_scale": 0 if radix == 10 else None,
            "maximum_scale": 38 if name == "DECIMAL" else 0 if radix == 10 else None,
            "sql_data_type": 9 if subcode is not None else number,
            "datetime_subcode": subcode,
            "num_prec_radix": radix,
            "interval_precision": None,
        }
        for name, number, size, quote, unsigned, subcode, radix in _TYPES
        if wanted is None or wanted == number
    ]
    return pa.Table.from_pylist(rows, schema=schemas.XDBC_TYPES)
