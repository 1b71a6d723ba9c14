import dataclasses
import re
from pathlib import Path

import pytest

from sabot.errors import ConfigError
from sabotd.config import Config, ServerConfig, load_config, parse_config, parse_duration, parse_size

CONF = Path(__file__).parents[2] / "conf" / "sabotd.toml"


def test_the_file_holds_every_key_with_its_default_and_a_comment():
    assert load_config(CONF) == Config()
    lines = CONF.read_text(encoding="utf-8").splitlines()
    section, seen = "", set()
    for before, line in zip(["", *lines], lines, strict=False):
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif key := re.match(r"(\w+) = ", line):
            assert before.startswith("# "), f"{line}: no comment above"
            assert (section, key[1]) not in seen
            seen.add((section, key[1]))
    assert seen == {
        (part.name, field.metadata["key"] or field.name)
        for part in dataclasses.fields(Config)
        for field in dataclasses.fields(part.default)
    }


def test_values_are_read_in_their_units():
    config = parse_config(
        '[streaming]\nbarrier_interval = "1.5s"\n[agents]\nmemory_limit = "2GB"\npool = 4096\ncount = 3\n', "c.toml"
    )
    assert config.streaming.barrier_interval_s == 1.5
    assert config.agents.memory_limit_bytes == 2_000_000_000
    assert config.agents.pool_bytes == 4096
    assert config.agents.resolved_count() == 3
    assert config.server == ServerConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[servr]\n", "c.toml, line 1: unknown section 'servr'; did you mean 'server'?"),
        ("\n[server]\ndata_dirr = 1", "c.toml, line 3: unknown key 'data_dirr' in [server]; did you mean 'data_dir'?"),
        ("listen = 1", "c.toml, line 1: unknown key 'listen'; there are server, agents, control, streaming, log"),
        ("server = 3", "c.toml, line 1: 'server' is a section; write [server]"),
        ('server.listen = "x"', "c.toml, line 1: server.listen: 'x' is no location; write 'grpc://HOST:PORT'"),
        ('server = {listen = "x"}', "c.toml, line 1: server.listen: 'x' is no location"),
        ("[server]\nlisten = 3", "c.toml, line 2: server.listen: 3 is no string"),
        ("[log]\nlevel = 'loud'", "c.toml, line 2: log.level: 'loud' is none of debug, info, warning, error"),
        ("[streaming]\n#\nidle_timeout = '5 parsecs'", "c.toml, line 3: streaming.idle_timeout: '5 parsecs' is no dur"),
        ("[streaming]\nbarrier_interval = 100", "c.toml, line 2: streaming.barrier_interval: '100' is no dur"),
        ("[streaming]\nparallelism = true", "c.toml, line 2: streaming.parallelism: True is no whole number"),
        ("[agents]\ncount = -1", "c.toml, line 2: agents.count: -1 is out of range; it goes from 0 to 1024"),
        ("[agents]\npool = '3 eggs'", "c.toml, line 2: agents.pool: '3 eggs' is no size"),
        ("[agents]\n\ncount = ", "c.toml, line 3: invalid value"),
        ('[log]\nlevel = """\n', "c.toml, line 3: unterminated string"),
        ('[server]\ndata_dir = """\n[log]\nx = 1\n"""\n[log]\nx = 2', "c.toml, line 7: unknown key 'x' in [log]"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_file_and_line(text, message):
    with pytest.raises(ConfigError) as info:
        parse_config(text, "c.toml")
    assert str(info.value).startswith(message)
    assert "\n" not in str(info.value)


def test_an_unreadable_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read '.*none.toml': no such file or directory"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"[log]\nlevel = '\xff'")
    with pytest.raises(ConfigError, match="not utf-8"):
        load_config(tmp_path / "latin.toml")


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert ServerConfig().data_path() == tmp_path / "sabot" / "data"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/sabot:/var/lib/other")
    assert ServerConfig().data_path() == Path("/var/lib/sabot")
    assert ServerConfig(data_dir="/srv/x").data_path() == Path("/srv/x")


def test_quantities():
    assert parse_duration("100ms") == pytest.approx(0.1)
    assert parse_duration("2 m") == 120
    assert parse_size("1.5KiB") == 1536
    assert parse_size("7") == 7
    for bad in ("", "ms", "1 e", "-1s"):
        with pytest.raises(ValueError, match="is no duration"):
            parse_duration(bad)
