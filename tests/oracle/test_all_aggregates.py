"""Every aggregate that DuckDB has, plain and with DISTINCT, FILTER and ORDER BY, under retractions: DuckDB's answer.

What SQL leaves open (which of several rows is the first) is settled by the rows' own columns, so these calls are
compared with ones that say so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import duckdb
import pytest

from planner.plan import plan_view
from sabot.errors import SqlError
from sabot.ids import JobId
from sabot.schema import arrow_schema
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.harness import History, batch_answer
from tests.oracle.test_queries import ITEMS, Catalog, OneDatabase, ShufflingRunner, item
from tests.support import job_runner

OF_NUMBERS = [
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "favg",
    "fsum",
    "kahan_sum",
    "kurtosis",
    "kurtosis_pop",
    "mad",
    "max",
    "mean",
    "median",
    "min",
    "product",
    "quantile_cont",
    "quantile_disc",
    "sem",
    "skewness",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "sum_no_overflow",
    "sumkahan",
    "var_pop",
    "var_samp",
    "variance",
    "approx_count_distinct",
    "count",
    "entropy",
    "histogram",
    "quantile",
    "decimal_average",
]
OF_PAIRS = [
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
]
OF_FLAGS = [
    "bool_and",
    "bool_or",
    "count_if",
    "countif",
]
OPEN = [
    "any_value",
    "arbitrary",
    "array_agg",
    "first",
    "last",
    "list",
    "mode",
]
OPEN_TEXTS = [
    "group_concat",
    "listagg",
    "string_agg",
]
OPEN_PAIRS = [
    "arg_max",
    "arg_max_null",
    "arg_max_nulls_last",
    "arg_min",
    "arg_min_null",
    "arg_min_nulls_last",
    "argmax",
    "argmin",
    "max_by",
    "min_by",
]
ARGUMENTS = {
    **dict.fromkeys(OF_NUMBERS, "rate"),
    "quantile_cont": "rate, 0.25",
    "quantile_disc": "rate, 0.25",
    "quantile": "rate, 0.75",
    "decimal_average": "CAST(rate AS DECIMAL(10, 2))",
    "sum_no_overflow": "k",
    **dict.fromkeys(OF_PAIRS, "rate, weight"),
    **dict.fromkeys(OF_FLAGS, "rate > 1"),
    **dict.fromkeys(OPEN, "label"),
    **dict.fromkeys(OPEN_TEXTS, "label, '|'"),
    **dict.fromkeys(OPEN_PAIRS, "label, rate"),
    "approx_quantile": "rate, 0.5",
    "approx_top_k": "label, 3",
    "count_star": "",
    "histogram_exact": "rate, [1, 3]",
    "lttb": "rate, weight, 3",
}
REFUSED = {
    "reservoir_quantile": "it draws a sample",
    "combine_aggr": "it takes states",
    "variant_group_object": "VARIANT is no type of columns",
    "bitstring_agg": "BIT is no type of columns",
}
"""Those that are no function of their rows, or of what no column can hold."""
FORMS = (
    "{f}({a}{o})",
    "{f}(DISTINCT {a}{o})",
    "{f}({a}{o}) FILTER (WHERE weight > 0)",
    "{f}({a} ORDER BY rate, label)",
)


def calls(name: str) -> Iterator[tuple[str, str]]:
    """Each form of a call, and what DuckDB is asked."""
    arguments = ARGUMENTS[name]
    columns = [a for a in arguments.split(", ") if a in ("rate", "label", "weight", "k")]
    settled = (
        f" ORDER BY {', '.join(columns)}" if name in (*OPEN, *OPEN_TEXTS, *OPEN_PAIRS, "approx_top_k", "lttb") else ""
    )
    # a sum that comes to zero does so within the rounding of its order
    around = "round({}, 9)" if name in OF_PAIRS else "{}"
    for form in FORMS if arguments else FORMS[:1]:
        bare, settled_call = (around.format(form.format(f=name, a=arguments, o=o)) for o in ("", settled))
        yield bare, settled_call


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "aggregates")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def names() -> set[str]:
    found = duckdb.execute("SELECT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'").fetchall()
    return {name for (name,) in found}


def test_each_aggregate_of_duckdb_is_looked_at() -> None:
    assert names() == ARGUMENTS.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_an_aggregate_is_duckdbs_under_retractions(name: str) -> None:
    rng = random.Random(name)
    tables = {"items": History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True).table()}
    items, batch = [], []
    for call, settled in calls(name):
        sql = f"SELECT {settled} AS c FROM items"
        try:
            batch_answer(sql, tables)
        except duckdb.Error:
            continue  # not DuckDB's either
        items.append(f"{call} AS c{len(items)}")
        batch.append(f"{settled} AS c{len(batch)}")
    assert items
    followed(
        f"SELECT k, {', '.join(items)} FROM items GROUP BY k", f"SELECT k, {', '.join(batch)} FROM items GROUP BY k"
    )


def followed(sql: str, batch: str) -> None:
    for parallelism in (1, 4):
        planned = plan_view(bind_query(sql, Catalog()), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)
        rng = random.Random(f"{sql}{parallelism}")
        items = History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True)  # noqa: B023
        runner = ShufflingRunner(planned.spec, parallelism)
        try:
            for size in (0, 25, 8, 20):
                runner.feed("items", items.epoch(size))
                shown = runner.barrier()
                wanted = batch_answer(batch, {"items": items.table()})
                assert shown == wanted, (sql, parallelism, shown - wanted, wanted - shown)
        finally:
            runner.close()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_no_function_of_its_rows_is_refused(name: str) -> None:
    arguments = {
        "reservoir_quantile": "rate, 0.5, 10",
        "variant_group_object": "label, rate",
        "bitstring_agg": "k, 0, 9",
    }.get(name, "rate")
    with pytest.raises(SqlError) as raised:
        bind_query(f"SELECT {name}({arguments}) AS x FROM items", Catalog())
    assert raised.value.span is not None


@pytest.mark.parametrize(
    "call", ["max(rate, k)", "min(rate, 0)", "arg_max(label, rate, k)", "max_by(label, rate, -1)", "approx_top_k(k, k)"]
)
def test_how_many_values_are_given_is_a_constant(call: str) -> None:
    with pytest.raises(SqlError, match="a whole number above zero") as raised:
        bind_query(f"SELECT {call} AS x FROM items", Catalog())
    assert raised.value.span is not None
    followed(
        "SELECT k, max(rate, 2) AS m, arg_min(label, (rate, label), 2) AS a FROM items GROUP BY k",
        "SELECT k, max(rate, 2) AS m, arg_min(label, (rate, label), 2) AS a FROM items GROUP BY k",
    )
