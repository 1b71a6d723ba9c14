"""The program as scripts use it, against a real server over the wire."""

import json
import signal
import subprocess

import pyarrow as pa

from repl.app import main
from tests.support.fix_repl import SABOT


def test_statements_from_the_command_line(sql_server):
    done = sql_server.sabot(
        "-c", "create table t (a int, b text);insert into t values (1, 'x'), (2, null)", "-c", "from t"
    )
    assert done.stderr == ""
    assert done.stdout == "CREATE TABLE\nINSERT 0 2\n a | b\n---+---\n 1 | x\n 2 |\n(2 rows)\n\n"
    assert done.returncode == 0


def test_formats(sql_server):
    sql_server.engine.con.execute("create table t as select 1 as a, 'x,y' as b")
    assert sql_server.sabot("--format", "csv", "-c", "insert into t values (2, null); from t").stdout == (
        'a,b\n1,"x,y"\n2,\n'
    )
    rows = sql_server.sabot("--format", "json", "-c", "from t").stdout.splitlines()
    assert [json.loads(row) for row in rows] == [{"a": 1, "b": "x,y"}, {"a": 2, "b": None}]
    assert sql_server.sabot("-x", "--null", "-", "-c", "from t where a = 2").stdout == "-[ RECORD 1 ]\na | 2\nb | -\n\n"


def test_arrow_to_a_pipe(sql_server):
    with sql_server.start("--format", "arrow", "-c", "select range as n from range(100000)") as process:
        table = pa.ipc.open_stream(process.stdout.buffer).read_all()
        assert process.wait() == 0
    assert table.column("n").to_pylist() == list(range(100_000))


def test_a_script_stops_at_its_first_error_and_says_where(sql_server, tmp_path):
    script = tmp_path / "s.sql"
    script.write_text("-- a script\nselect 1 as one;\n\n  select nope; select 2 as two;\n")
    done = sql_server.sabot("-f", str(script))
    assert done.returncode == 1
    assert "one" in done.stdout
    assert "two" not in done.stdout
    assert "line 4" in done.stderr
    lines = done.stderr.splitlines()
    caret = next(i for i, line in enumerate(lines) if line.strip(" ^") == "" and "^" in line)
    assert lines[caret - 1][lines[caret].index("^") :].startswith("nope")
    assert "Traceback" not in done.stderr


def test_sql_on_standard_input_with_commands(sql_server):
    done = sql_server.sabot(stdin="select 1 as a;\n\\x\nselect 2 as a\n;\n\\q\nselect 3;\n")
    assert done.stdout == " a\n---\n 1\n(1 row)\n\n-[ RECORD 1 ]\na | 2\n\n"
    assert done.stderr == "expanded display is on\n"
    assert done.returncode == 0


def test_rows_before_an_error_are_kept(sql_server):
    done = sql_server.sabot("--format", "csv", "-c", "fail")
    assert done.returncode == 1
    assert done.stdout == "a\n1\n2\n"
    assert done.stderr == "error: job 'mv:v' failed\nhint: see SHOW JOBS\n"


def test_notices_go_to_stderr(sql_server):
    done = sql_server.sabot("-c", "set colour = red")
    assert (done.stdout, done.stderr) == ("SET\n", "notice: colour is now red\n")


def test_a_subscription_flows_until_interrupted(sql_server):
    sql_server.engine.con.execute("create table t as select 1 as a")
    with sql_server.start("--format", "csv", "-c", "subscribe t") as process:
        assert [process.stdout.readline() for _ in range(2)] == ["a\n", "1\n"]
        sql_server.engine.open_session().execute("insert into t values (2)").close()
        assert process.stdout.readline() == "2\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == ""
    assert sql_server.engine.wait_idle()


def test_a_reader_that_leaves_ends_the_program(sql_server):
    with sql_server.start("--format", "csv", "-c", "select range from range(100000000)") as process:
        assert process.stdout.readline() == "range\n"
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""


def test_wrong_use_is_one_line_and_status_2(sql_server, capsys):
    for arguments in (["--nope"], ["--format", "xml"], ["--server", "grpc://x:1", "--data", "d"]):
        done = sql_server.sabot(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
    assert main(["-f", "/no/such/file"]) == 2
    assert capsys.readouterr().err == "error: cannot read '/no/such/file'\n"
    assert main(["--server", "grpc://127.0.0.1:1", "-c", "select 1"]) == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_commands(sql_server, tmp_path):
    sql_server.engine.con.execute(
        "insert into sabot_catalog.relations values ('t', 'table', 'a INTEGER', ''),"
        " ('mv', 'materialized view', 'n', ''), ('k', 'source', '', '');"
        "insert into sabot_catalog.jobs values ('mv:mv', 'RUNNING', 12, 3, null, '')"
    )
    out = tmp_path / "out.txt"
    inner = tmp_path / "inner.sql"
    inner.write_text("select 42 as answer;\n")
    script = [
        "\\dt", "\\dv", "\\ds", "\\d", "\\jobs", f"\\o {out}", "select 7 as seven;", "\\o", f"\\i {inner}",
        "\\timing on", "select 1 as one;", "\\pset null NIL", "select null as n;", "\\h fl", "\\conninfo", "\\?",
    ]  # fmt: skip
    done = sql_server.sabot("--format", "table", stdin="\n".join(script) + "\n")
    assert done.returncode == 0, done.stderr
    for part in (" t    | table", "mv:mv", "42", "NIL", "FLUSH", sql_server.url, "\\watch [SECONDS]", " k    | source"):
        assert part in done.stdout
    assert "seven" not in done.stdout
    assert "seven" in out.read_text()
    assert "Time: " in done.stderr


def test_mistaken_commands(sql_server):
    for line, message in {
        "\\dz": "error: unknown command '\\dz'; did you mean '\\d",
        "\\timing maybe": "error: 'maybe' is neither on nor off",
        "\\dt x": "error: '\\dt' takes no argument, not 'x'",
        "\\i /no/file": "error: no such file or directory: '/no/file'",
        "\\watch": "error: there is no query to watch; run one first",
        "\\watch soon": "error: 'soon' is no number of seconds",
        "\\h nonsense": "error: no help on 'nonsense'; '\\h' lists all statements",
        "\\pset colour red": "error: unknown setting 'colour'; there are null, format, pager",
    }.items():
        done = sql_server.sabot(stdin=line + "\nselect 1;\n")
        assert done.returncode == 1
        assert done.stderr.startswith(message)
        assert done.stdout == ""


def test_watch_without_a_terminal_writes_one_after_the_other(sql_server, tmp_path):
    script = tmp_path / "watch.sql"
    script.write_text("select 1 as a;\n\\watch 0.01\n")
    with sql_server.start("-f", str(script)) as process:
        lines = [process.stdout.readline() for _ in range(15)]
        assert lines == [" a\n", "---\n", " 1\n", "(1 row)\n", "\n"] * 3
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == ""


def test_statements_run_as_they_come_through_a_pipe(sql_server):
    with subprocess.Popen(
        [*SABOT, "--server", sql_server.url, "--format", "csv"],
        env=sql_server.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        process.stdin.write("select 1 as a;\n")
        assert [process.stdout.readline() for _ in range(2)] == ["a\n", "1\n"]
        process.stdin.write("select 2 as b")
        process.stdin.close()
        assert process.stdout.read() == "b\n2\n"
        assert process.wait() == 0
