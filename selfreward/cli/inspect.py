"""Commands that look: SQL on the rows, what is installed."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import DATA, RUN, Dir, Json, RunName, open_store, settings_of
from selfreward.errors import ExitCode

commands = typer.Typer()


@commands.command(rich_help_panel=DATA)
def query(
    sql: Annotated[str | None, typer.Argument(help="One SELECT.")] = None,
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="List the tables and views.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most rows to print.")] = 1000,
    timeout: Annotated[float, typer.Option(min=0.1, help="Most seconds the query may take.")] = 30,
) -> None:
    """Run one SQL query on the run's database. It can read everything and change nothing.

    Examples:

        selfreward query "select t, prompts, pairs from iteration_summary"

        selfreward query --csv "select score, count(*) from judgement group by score" > scores.csv
    """
    from selfreward.store.readonly import QueryResult, relations, run_query
    from selfreward.terminal import tabular

    settings = settings_of(directory)
    store = open_store(settings, directory)
    if tables or sql is None:
        rows = tuple(relations(store.database))
        result = QueryResult(columns=("name", "kind"), rows=rows, truncated=False)
    else:
        result = run_query(store.database, sql, max_rows=limit, timeout_s=timeout)
    printer = tabular.print_json if as_json else tabular.print_csv if as_csv else tabular.print_table
    printer(result)
    if result.truncated:
        print(f"only the first {limit} rows are shown: give --limit for more", file=sys.stderr)


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
