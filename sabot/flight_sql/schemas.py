"""Arrow schemas of the metadata answers, as the Flight SQL protocol fixes them."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_UTF8 = pa.utf8()


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


EMPTY: Final = pa.schema([])

CATALOGS: Final = pa.schema([_required("catalog_name", _UTF8)])
DB_SCHEMAS: Final = pa.schema([pa.field("catalog_name", _UTF8), _required("db_schema_name", _UTF8)])
TABLES: Final = pa.schema(
    [
        pa.field("catalog_name", _UTF8),
        pa.field("db_schema_name", _UTF8),
        _required("table_name", _UTF8),
        _required("table_type", _UTF8),
    ]
)
TABLES_WITH_SCHEMA: Final = TABLES.append(_required("table_schema", pa.binary()))
TABLE_TYPES: Final = pa.schema([_required("table_type", _UTF8)])
PRIMARY_KEYS: Final = pa.schema(
    [
        pa.field("catalog_name", _UTF8),
        pa.field("db_schema_name", _UTF8),
        _required("table_name", _UTF8),
        _required("column_name", _UTF8),
        pa.field("key_name", _UTF8),
        _required("key_sequence", pa.int32()),
    ]
)
FOREIGN_KEYS: Final = pa.schema(
    [
        pa.field("pk_catalog_name", _UTF8),
        pa.field("pk_db_schema_name", _UTF8),
        _required("pk_table_name", _UTF8),
        _required("pk_column_name", _UTF8),
        pa.field("fk_catalog_name", _UTF8),
        pa.field("fk_db_schema_name", _UTF8),
        _required("fk_table_name", _UTF8),
        _required("fk_column_name", _UTF8),
        _required("key_sequence", pa.int32()),
        pa.field("fk_key_name", _UTF8),
        pa.field("pk_key_name", _UTF8),
        _required("update_rule", pa.uint8()),
        _required("delete_rule", pa.uint8()),
    ]
)
SQL_INFO_VALUE: Final = pa.dense_union(
    [
        pa.field("string_value", _UTF8),
        pa.field("bool_value", pa.bool_()),
        pa.field("bigint_value", pa.int64()),
        pa.field("int32_bitmask", pa.int32()),
        pa.field("string_list", pa.list_(pa.field("item", _UTF8))),
        pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
    ]
)
SQL_INFO: Final = pa.schema([_required("info_name", pa.uint32()), pa.field("value", SQL_INFO_VALUE)])
XDBC_TYPES: Final = pa.schema(
    [
        _required("type_name", _UTF8),
        _required("data_type", pa.int32()),
        pa.field("column_size", pa.int32()),
        pa.field("literal_prefix", _UTF8),
        pa.field("literal_suffix", _UTF8),
        pa.field("create_params", pa.list_(_required("item", _UTF8))),
        _required("nullable", pa.int32()),
        _required("case_sensitive", pa.bool_()),
        _required("searchable", pa.int32()),
        pa.field("unsigned_attribute", pa.bool_()),
        _required("fixed_prec_scale", pa.bool_()),
        pa.field("auto_increment", pa.bool_()),
        pa.field("local_type_name", _UTF8),
        pa.field("minimum_scale", pa.int32()),
        pa.field("maximum_scale", pa.int32()),
        _required("sql_data_type", pa.int32()),
        pa.field("datetime_subcode", pa.int32()),
        pa.field("num_prec_radix", pa.int32()),
        pa.field("interval_precision", pa.int32()),
    ]
)
