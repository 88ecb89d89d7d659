"""Commands that look: SQL on the rows, what is installed."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.completing import parameter_names, relation_names, saved_names
from selfreward.cli.options import DATA, RUN, Dir, Json, RunName, open_store, settings_of
from selfreward.errors import BadInput, ExitCode

if TYPE_CHECKING:
    from selfreward.cookbook import SavedQuery, Value
    from selfreward.store.database import Database
    from selfreward.store.readonly import QueryResult

commands = typer.Typer()
ROWS, NEWEST_ROWS = 1000, 20
"""Most rows that are printed of a query, and of a table that is only named."""
SQL_HELP = "One SELECT; or the name of a table or view, for its newest rows."

Sql = Annotated[str | None, typer.Argument(metavar="SQL", help=SQL_HELP, autocompletion=relation_names)]
Saved = Annotated[
    str | None,
    typer.Option("--saved", metavar="NAME", help="Run a saved query.", autocompletion=saved_names),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="What :name in the SQL stands for: --param t=2 (repeatable).",
        autocompletion=parameter_names,
    ),
]
Parquet = Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file.")]
KeepFormulas = Annotated[
    bool,
    typer.Option("--keep-formulas", help="CSV: no quote before texts that a spreadsheet would calculate."),
]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """SQL with the values of its parameters."""

    sql: str
    values: "dict[str, Value]"
    limit: int = ROWS


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How a result is printed. Raises BadInput for two forms at once."""

    as_json: bool
    as_csv: bool
    parquet: Path | None
    keep_formulas: bool

    def __post_init__(self) -> None:
        if self.as_csv + self.as_json + (self.parquet is not None) > 1:
            raise BadInput("one format at a time: --csv, --json or --parquet")

    def write(self, result: "QueryResult") -> None:
        """Print it, or write the file."""
        from selfreward.terminal import tabular

        if self.parquet is not None:
            tabular.write_parquet(result, self.parquet)
            print(f"{len(result.rows)} rows in {self.parquet}", file=sys.stderr)
        elif self.as_json:
            tabular.print_json(result)
        elif self.as_csv:
            tabular.print_csv(result, self.keep_formulas)
        else:
            tabular.print_table(result)


@commands.command(rich_help_panel=DATA)
def query(
    sql: Sql = None,
    directory: Dir = Path(),
    run_name: RunName = None,
    saved: Saved = None,
    parameters: Parameters = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    parquet: Parquet = None,
    keep_formulas: KeepFormulas = False,
    listing: Annotated[bool, typer.Option("--list", help="List the saved queries.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="List the tables and views.")] = False,
    show_sql: Annotated[bool, typer.Option("--print", help="Print the SQL instead of running it.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Most rows to print.", show_default=f"{ROWS}; {NEWEST_ROWS} of a table"),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Most seconds the query may take.")] = 30,
) -> None:
    """Run one SQL query on the run's database. It can read everything and change nothing.

    Examples:

        selfreward query "select t, prompts, pairs from iteration_summary"

        selfreward query candidate

        selfreward query --list

        selfreward query --saved widest_pairs --param t=2

        selfreward query "select * from prompt where id = :id" --param id=17

        selfreward query --csv "select score, count(*) from judgement group by score" > scores.csv
    """
    form = _Form(as_json=as_json, as_csv=as_csv, parquet=parquet, keep_formulas=keep_formulas)
    if (sql is not None) + (saved is not None) + listing + tables > 1:
        raise BadInput("one thing at a time: SQL, --saved, --list or --tables")
    if listing:
        return form.write(_list_queries())
    database = open_store(settings_of(directory), directory).database
    if tables or (sql is None and saved is None):
        return form.write(_list_relations(database))
    asked = _asked(database, sql, saved, run_name, _pairs(parameters or []))
    if show_sql:
        return print(asked.sql)
    _run(database, asked, limit or asked.limit, timeout, form)


def _run(database: "Database", asked: _Asked, limit: int, timeout: float, form: _Form) -> None:
    from selfreward.store.readonly import run_query

    result = run_query(database, asked.sql, parameters=asked.values, max_rows=limit, timeout_s=timeout)
    form.write(result)
    if result.truncated:
        why = "give --limit for more" if len(result.rows) == limit else "more would be too large to print"
        print(f"only the first {len(result.rows)} rows are shown: {why}", file=sys.stderr)


def _list_queries() -> "QueryResult":
    from selfreward.cookbook import saved_queries
    from selfreward.store.readonly import QueryResult

    rows = tuple((each.name, each.title, _told(each)) for each in saved_queries())
    return QueryResult(columns=("name", "question", "parameters"), rows=rows, truncated=False)


def _told(query: "SavedQuery") -> str:
    defaults = ((each.name, "" if each.default is None else f"={each.default}") for each in query.parameters)
    return " ".join(name + default for name, default in defaults)


def _list_relations(database: "Database") -> "QueryResult":
    from selfreward.store.readonly import QueryResult
    from selfreward.store.relations import described

    return QueryResult(columns=("name", "kind", "holds"), rows=tuple(described(database)), truncated=False)


def _asked(
    database: "Database", sql: str | None, saved: str | None, run: str | None, given: dict[str, str]
) -> _Asked:
    """What is to be run. `--run` is the saved query's `run`, unless --param names another."""
    from selfreward.cookbook import guessed, saved_query

    if saved is not None:
        chosen = saved_query(saved)
        if run is not None and any(each.name == "run" for each in chosen.parameters):
            given = {"run": run} | given
        return _Asked(sql=chosen.statement(sqlite=database.is_sqlite), values=chosen.values(given))
    assert sql is not None
    if re.fullmatch(r"\s*\w+\s*", sql):
        return _Asked(sql=_newest(database, sql.strip()), values={}, limit=NEWEST_ROWS)
    return _Asked(sql=sql, values={name: guessed(text) for name, text in given.items()})


def _newest(database: "Database", name: str) -> str:
    """SQL for the newest rows of a table. Raises BadInput with the nearest name when there is none."""
    from difflib import get_close_matches

    from selfreward.cookbook import saved_queries
    from selfreward.store.readonly import relations
    from selfreward.store.relations import newest_rows

    known = [relation for relation, _ in relations(database)]
    if name in known:
        return newest_rows(name)
    if name in {query.name for query in saved_queries()}:
        raise BadInput(f"{name} is a saved query", f"Run it: selfreward query --saved {name}")
    near = get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Tables and views: selfreward query --tables"
    raise BadInput(f"there is no table or view {name!r}", hint)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not name or not equals:
            raise BadInput(f"--param {text}: no name and value", "Write --param NAME=VALUE, as in t=2.")
    return {name: value for name, _, value in pairs}


@commands.command(rich_help_panel=RUN)
def doctor(
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
) -> None:
    """What is installed and there, what will be used, and what is missing with the command that helps."""
    from selfreward.terminal import doctor as check

    findings = check.examine(directory)
    if as_json:
        print(json.dumps([check.as_json(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        check.show(findings)
    if any(finding.level == "missing" for finding in findings):
        raise typer.Exit(int(ExitCode.FAILED))
