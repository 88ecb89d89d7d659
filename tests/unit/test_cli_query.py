"""`selfreward query` as a user sees it: saved queries, tables by name, parameters, formats."""

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest
from rich.console import Console

from selfreward.store.readonly import QueryResult
from selfreward.terminal import tabular
from tests.commands import Done, selfreward


@pytest.fixture
def query(done_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the directory of a run that is done."""
    monkeypatch.chdir(done_run)


def ask(*arguments: str) -> Done:
    """`selfreward query …`"""
    return selfreward("query", *arguments)


pytestmark = pytest.mark.usefixtures("query")


def test_saved_queries_are_listed_with_their_questions() -> None:
    listed = json.loads(ask("--list", "--json").stdout)
    by_name = {row["name"]: row for row in listed}
    assert by_name["judge_health"]["question"] == "Can the judge of each iteration be trusted?"
    assert by_name["widest_pairs"]["parameters"] == "run t limit=20"
    assert "judge_health" in ask("--list").stdout


def test_a_saved_query_is_run_with_parameters() -> None:
    done = ask("--saved", "judge_health", "--json", "--param", "t=1")
    assert {(row["run"], row["t"]) for row in json.loads(done.stdout)} == {("main", 1), ("beta05", 1)}
    one = ask("--saved", "judge_health", "--json", "--run", "beta05")
    assert {row["run"] for row in json.loads(one.stdout)} == {"beta05"}


def test_the_sql_of_a_saved_query_is_a_start_for_ones_own() -> None:
    sql = ask("--saved", "iterations", "--print").stdout
    assert (
        ask(sql, "--param", "run=main", "--csv").stdout
        == ask("--saved", "iterations", "--param", "run=main", "--csv").stdout
    )


def test_ones_own_parameters_are_bound() -> None:
    done = ask(
        "select id, source from prompt where id = :id and source <> :other", "--csv", "--param", "id=2"
    )
    assert done.returncode == 2 and "needs a value for :other" in done.stderr
    done = ask(
        "select id from prompt where id = :id and source <> :other",
        *("--csv", "--param", "id=2", "--param", "other='; drop table prompt --"),
    )
    assert done.stdout.split() == ["id", "2"]


def test_a_table_that_is_only_named_shows_its_newest_rows() -> None:
    done = ask("candidate", "--json")
    ids = [row["id"] for row in json.loads(done.stdout)]
    assert ids == list(range(96, 76, -1)) and "only the first 20 rows" in done.stderr
    for name in ("setting", "pair_decision", "iteration_summary", "prompt_search", "alembic_version"):
        assert ask(name, "--csv").returncode == 0


def test_tables_are_listed_with_what_they_hold() -> None:
    rows = {row["name"]: row for row in json.loads(ask("--tables", "--json").stdout)}
    assert rows["candidate"] == {
        "name": "candidate",
        "kind": "table",
        "holds": "An answer to a prompt: one of M_t's N, an earlier model's, or an imported one.",
    }
    assert rows["judge_health"]["kind"] == "view" and rows["judge_health"]["holds"]
    assert not [name for name in rows if name.startswith("prompt_search_")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--saved", "judge_heath"], "Did you mean judge_health?"),
        (["--saved", "judge_health", "--param", "T=1"], "no parameter 'T'"),
        (["--saved", "judge_health", "--param", "t=one"], "a whole number"),
        (["--saved", "judge_health", "--param", "t"], "NAME=VALUE"),
        (["candidates"], "Did you mean candidate?"),
        (["widest_pairs"], "selfreward query --saved widest_pairs"),
        (["select 1", "--saved", "judge_health"], "one thing at a time"),
        (["select 1", "--csv", "--json"], "one format at a time"),
        (["select 1", "--parquet", "nowhere/x.parquet"], "cannot write nowhere/x.parquet"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], told: str) -> None:
    done = ask(*arguments)
    assert done.returncode == 2 and told in done.stderr.replace("\n", " ")


def test_a_result_too_large_to_print_is_cut_with_a_notice() -> None:
    done = ask("select hex(zeroblob(20000000)) from prompt", "--csv")
    assert done.returncode == 0 and "only the first 1 rows are shown: more would be too large" in done.stderr


def test_csv_holds_no_formula_unless_it_is_asked_for() -> None:
    sql = (
        "select '=1+1' as \"=f\", '+1' as a, '-1' as b, '@x' as c,"
        " char(9) || 'x' as d, char(13) as e, -1 as n, -1.5 as x"
    )
    header, row = csv.reader(io.StringIO(ask(sql, "--csv").stdout, newline=""))
    assert header[0] == "'=f"
    assert row == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\r", "-1", "-1.5"]
    assert next(iter(list(csv.reader(io.StringIO(ask(sql, "--csv", "--keep-formulas").stdout)))[1])) == "=1+1"


def test_decimals_stay_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    tabular.print_csv(QueryResult(columns=("n",), rows=((Decimal("-0.10"),),), truncated=False))
    assert capsys.readouterr().out.split() == ["n", "-0.10"]


def test_json_is_valid_and_loses_no_column() -> None:
    sql = "select 1 as a, 2 as a, 9e999 as infinite, x'00ff' as bytes, 0.1 + 0.2 as sum, null as empty"
    assert json.loads(ask(sql, "--json").stdout) == [
        {"a": 1, "a_2": 2, "infinite": None, "bytes": "00ff", "sum": 0.1 + 0.2, "empty": None}
    ]


def test_parquet_holds_what_was_found(tmp_path: Path) -> None:
    sql = (
        "select 1 as a, 2.5 as a, 'é\u202e' as text, null as empty, x'00' as bytes"
        " union all select 2, null, '=x', null, x'01'"
    )
    done = ask(sql, "--parquet", str(tmp_path / "out.parquet"))
    assert "2 rows" in done.stderr and done.stdout == ""
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == [
        {"a": 1, "a_2": 2.5, "text": "é\u202e", "empty": None, "bytes": b"\x00"},
        {"a": 2, "a_2": None, "text": "=x", "empty": None, "bytes": b"\x01"},
    ]
    mixed = ask("select 1 as a union all select 'x'", "--parquet", str(tmp_path / "mixed.parquet"))
    assert mixed.returncode == 0
    assert pyarrow.parquet.read_table(tmp_path / "mixed.parquet").to_pylist() == [{"a": "1"}, {"a": "x"}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed.parquet", "out.parquet"]


def shown(result: QueryResult, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal of that width shows."""
    out = io.StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(tabular, "Console", lambda: Console(file=out, width=width, color_system=None))
    tabular.print_table(result)
    return out.getvalue()


def test_a_narrow_terminal_shows_rows_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = tuple(f"column_{n}" for n in range(12))
    result = QueryResult(columns=columns, rows=(tuple(range(12)),), truncated=False)
    assert "  column_11: 11\n" in shown(result, 60, monkeypatch)
    assert shown(result, 200, monkeypatch).split() == [*columns, *map(str, range(12))]


def test_a_terminal_shows_the_beginning_of_a_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    result = QueryResult(columns=("text",), rows=(("\x1b[31m" + "x" * 1000,),), truncated=False)
    text = shown(result, 80, monkeypatch)
    assert "… (605 more)" in text and "\x1b" not in text and max(map(len, text.splitlines())) <= 80


def completed(line: str) -> list[str]:
    """What bash would offer for a command line."""
    words = line.split(" ")
    environment = os.environ | {
        "_SELFREWARD_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [sys.executable, "-c", "from selfreward.cli import app; app(prog_name='selfreward')"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("selfreward query --saved judge_", ["judge_disagreement", "judge_health"]),
        ("selfreward query pair", ["pair_decision", "pair_outcomes"]),
        ("selfreward query --saved widest_pairs --param l", ["limit="]),
    ],
)
def test_the_shell_completes_names(line: str, offered: list[str]) -> None:
    assert completed(line) == offered
