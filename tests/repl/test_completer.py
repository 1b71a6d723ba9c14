import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from pygments.token import Comment, Keyword, Name, String

from repl.completer import SqlCompleter
from repl.lexer import SabotLexer
from repl.objects import Objects, read_relations
from sabot.client import connect
from sabot.errors import ClientError


@pytest.fixture
def complete(sql_server):
    sql_server.engine.con.execute("create table bids (auction bigint, price bigint); create table people (name text)")
    with connect(sql_server.url) as connection:
        known = read_relations(connection)
    assert known["bids"].columns == ("auction", "price")

    class Known(Objects):
        def __init__(self) -> None:
            pass

        def relations(self):
            return known

    completer = SqlCompleter(Known())

    def texts(text: str, *, tab: bool = False) -> list[str]:
        before, _, after = text.partition("|")
        document = Document(before + after, len(before))
        event = CompleteEvent(text_inserted=not tab, completion_requested=tab)
        return [completion.text for completion in completer.get_completions(document, event)]

    return texts


def test_names_where_they_fit(complete):
    assert complete("select * from |") == ["bids", "people"]
    assert complete("select * from b|") == ["bids"]
    assert complete("select pr| from bids")[0] == "price"
    assert complete("select b.| from bids b") == ["auction", "price"]
    assert "auction" not in complete("select a| from people", tab=True)
    assert complete("select 'from |") == []
    assert complete("select 1; describe p|") == ["people"]
    assert complete("insert into |") == ["bids", "people"]
    assert complete("drop sink |") == []


def test_keywords_take_the_case_of_the_user(complete):
    assert complete("sel|") == ["select"]
    assert complete("SEL|") == ["SELECT"]
    assert complete("|") == []
    assert "CREATE" in complete("|", tab=True)


def test_commands_and_their_arguments(complete, tmp_path):
    assert complete("\\ti|") == ["ming"] or complete("\\ti|") == ["timing"]
    assert complete("\\d b|") == ["bids"]
    assert "CREATE SINK" in complete("\\h CREATE S|")
    (tmp_path / "script.sql").touch()
    assert complete(f"\\i {tmp_path}/scr|") == ["ipt.sql"]


def test_objects_are_read_in_the_background(sql_server):
    sql_server.engine.con.execute("create table t (a int)")
    objects = Objects(lambda: connect(sql_server.url))
    assert objects.relations() == {}
    objects.wait()
    assert objects.relations()["t"].columns == ("a",)
    sql_server.engine.con.execute("create table u (a int)")
    objects.refresh(stale=True)
    objects.wait()
    assert set(objects.relations()) == {"t", "u"}
    objects.close()
    objects.refresh(stale=True)


def test_a_server_that_is_gone_completes_nothing():
    def refuse():
        raise ClientError("no server")

    objects = Objects(refuse)
    objects.relations()
    objects.wait()
    assert objects.relations() == {}


def test_colours():
    tokens = list(SabotLexer().get_tokens("select count(*) from \"a\" -- x\nwhere b = 'it''s' /* /* */ */ emit"))
    kinds = {text: kind for kind, text in tokens}
    assert kinds["select"] is Keyword
    assert kinds["emit"] is Keyword
    assert kinds["count"] is Name.Function
    assert kinds['"a"'] is String.Name
    assert kinds["'it''s'"] is String.Single
    assert kinds["-- x"] is Comment.Single
    assert kinds["b"] is Name
    assert next(iter(SabotLexer().get_tokens("\\d bids")))[0] is Name.Decorator
