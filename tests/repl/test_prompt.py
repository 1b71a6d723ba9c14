"""The prompt on a terminal of its own, read as a person sees it."""

import re

import pytest

PROMPT = r"^sabot> $"


@pytest.fixture
def prompt(sql_server, terminal):
    sql_server.engine.con.execute("create table bids (auction bigint, price bigint); insert into bids values (1, 10)")
    term = terminal()
    term.wait_for(r"^sabot>")
    return term


def test_a_session(prompt, sql_server, tmp_path):
    prompt.send("select auction,\r")
    prompt.wait_for(r"^    ->")
    prompt.send("price from bids;\r")
    prompt.wait_for(r"^       1 \|    10\n\(1 row\)")
    prompt.send("select nope;\r")
    prompt.wait_for(r"error: .*nope")
    prompt.wait_for(r"\^\^\^\^")
    prompt.send("\\timing\r")
    prompt.wait_for(r"timing is on")
    prompt.send("create table t2 (a int);\r")
    prompt.wait_for(r"Time: [\d.]+ ms")
    prompt.send("\x04")
    assert prompt.wait_end() == 0
    history = (tmp_path / "state" / "sabot" / "history").read_text()
    assert "+price from bids;" in history


def test_completion_from_the_catalog(prompt):
    prompt.send("select pri from bids")
    prompt.send("\x1b[D" * len(" from bids"))
    prompt.send("\t")
    prompt.wait_for(r"^ +price")
    prompt.send("\t")
    prompt.wait_for(r"select price from bids")
    prompt.send("\x1b[F;\r")
    prompt.wait_for(r"^    10\n\(1 row\)")


def test_ctrl_c_stops_the_query_not_the_shell(prompt, sql_server):
    prompt.send("flush;\r")
    assert sql_server.engine.flushing.wait(30)
    prompt.send("\x03")
    prompt.wait_for(r"^cancelled")
    prompt.send("select 41 + 1 as answer;\r")
    prompt.wait_for(r"^     42")
    prompt.send("half a statement")
    prompt.send("\x03")
    prompt.send("\\q\r")
    assert prompt.wait_end() == 0


def test_long_work_shows_its_progress(prompt, sql_server):
    sql_server.engine.con.execute(
        "insert into sabot_catalog.jobs values ('mv:q5', 'RUNNING', 1234567, 89, '2026-01-01 00:00:00', '')"
    )
    prompt.send("flush;\r")
    prompt.wait_for(r"^mv:q5  1,234,567 rows in, 89 out  watermark 2026-01-01")
    with sql_server.engine.changed:
        sql_server.engine.release_flush = True
        sql_server.engine.changed.notify_all()
    prompt.wait_for(r"^FLUSH")
    assert "mv:q5" not in prompt.text


def test_watch_redraws_in_place(prompt, sql_server):
    prompt.send("select count(*) as n from bids;\r")
    prompt.wait_for(r"\(1 row\)")
    prompt.send("\\watch 0.1\r")
    prompt.wait_for(r"^every 0.1 s.*\n n\n---\n 1\n\(1 row\)")
    sql_server.engine.con.execute("insert into bids values (2, 20)")
    prompt.wait_for(r"^every 0.1 s.*\n n\n---\n 2\n\(1 row\)")
    assert len(re.findall(r"^every", prompt.text, re.MULTILINE)) == 1
    prompt.send("\x03")
    prompt.wait_for(r"^cancelled")


def test_a_subscription_redraws_in_place(prompt, sql_server):
    con = sql_server.engine.con
    con.execute("create table changes (__epoch bigint, k text, n int, __weight int)")
    con.execute("insert into changes values (1, 'a', 1, 1), (1, 'b', 1, 1)")
    prompt.send("subscribe changes;\r")
    prompt.wait_for(r"^ a \| 1\n b \| 1\n\(2 rows, 2 changes, epoch 1\)")
    sql_server.engine.open_session().execute("insert into changes values (2, 'a', 1, -1), (2, 'a', 7, 1)").close()
    prompt.wait_for(r"^ a \| 7\n b \| 1\n\(2 rows, 4 changes, epoch 2\)")
    assert len(re.findall(r"Ctrl-C ends", prompt.text)) == 1
    prompt.send("\x03")
    prompt.wait_for(r"^cancelled")
    assert sql_server.engine.wait_idle()
    prompt.send("\\q\r")
    assert prompt.wait_end() == 0


def test_the_pager(sql_server, terminal):
    sql_server.env["PAGER"] = "sed s/^/paged:/"
    term = terminal()
    term.wait_for(r"^sabot>")
    term.send("\\pset pager on\r")
    term.wait_for(r"pager on")
    term.send("select range as n from range(3);\r")
    term.wait_for(r"^paged: 2\npaged:\(3 rows\)")
    term.send("\\q\r")
    assert term.wait_end() == 0
