"""The wheel: it builds from a checkout, has our names and no others, and works from an empty folder.

Compiles the kernels once (that is its time, about 20 s).
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = {"sabot", "planner", "sql_frontend", "cython_shuffle", "sabotd", "repl"}
LEFT_OUT = shutil.ignore_patterns("*.so", "*.c", "__pycache__")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in NAMES:
        shutil.copytree(ROOT / name, source / name, ignore=LEFT_OUT)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(source)]
    run(*build, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, whose dependencies are borrowed from this one (a path, so no editable install)."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    run(*pip, "install", "--no-deps", "--no-index", str(wheel), cwd=home)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_top_level_names_are_ours_with_one_owner_each(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    tops = {name.split("/")[0] for name in files if ".dist-info/" not in name}
    assert tops == NAMES
    owners = packages_distributions()
    assert {name: sorted(set(owners.get(name, ["sabot"]))) for name in NAMES} == {name: ["sabot"] for name in NAMES}
    assert "sabot/py.typed" in files
    assert any(name.startswith("cython_shuffle/_kernels.") and name.endswith(".so") for name in files)
    assert any(name.endswith("licenses/LICENSE") for name in files)


def test_programs_run_from_an_empty_folder(installed, tmp_path):
    version = run(installed / "bin" / "sabot", "--version", cwd=tmp_path)
    assert version.split()[0] == "sabot"
    assert run(installed / "bin" / "sabotd", "--version", cwd=tmp_path).split()[1] == version.split()[1]
    code = "import sabot, cython_shuffle._kernels as k; print(sabot.__file__, k.__file__, sep='\\n')"
    for file in run(installed / "bin" / "python", "-c", code, cwd=tmp_path).splitlines():
        assert Path(file).is_relative_to(installed)


def test_sql_runs_from_an_empty_folder(installed, tmp_path):
    script = "create table t (a int); insert into t values (1), (2); select sum(a) as s from t"
    out = run(installed / "bin" / "sabot", "--format", "csv", "-c", script, cwd=tmp_path)
    assert out.splitlines()[-2:] == ["s", "3"]
    assert list(tmp_path.iterdir()) == []


def test_the_demo_runs_from_an_empty_folder(installed, tmp_path):
    out = run(installed / "bin" / "python", "-m", "repl.demo", "--seconds", "1", "--rate", "20000", cwd=tmp_path)
    assert "EXPLAIN ANALYZE hot_auctions" in out
    assert "HASH by window_start, auction, tasks 2 x 2" in out
    assert list(tmp_path.iterdir()) == []
