"""What `datasette` needs to show a run's SQLite file with words: descriptions, facets, the saved queries.

Tables, views and columns are described by the comments of the schema, saved queries are those of the
cookbook. Datasette passes what a form leaves empty as '', where our queries have NULL or a default.
"""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfreward.cookbook import Parameter, SavedQuery, saved_queries
from selfreward.errors import BadInput
from selfreward.store.database import Database
from selfreward.store.schema import VIEWS, Table
from selfreward.training.manifest import write_durably

FILE = "metadata.json"
PAPER = "https://arxiv.org/abs/2401.10020"
HIDDEN = (
    "alembic_version",
    "prompt_search_config",
    "prompt_search_data",
    "prompt_search_docsize",
    "prompt_search_idx",
)
FACETS: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("kind",),
    "evaluation": ("checkpoint", "suite", "metric"),
    "event": ("kind",),
    "gate_check": ("gate", "state"),
    "iteration": ("status",),
    "prompt": ("source", "status", "reject_reason"),
    "stage": ("name", "status"),
    "training_metric": ("name",),
}
"""Of tables that stay small enough: counting the statuses of millions of rows takes too long."""
NEWEST_FIRST = ("event", "candidate", "judgement", "preference_pair")
LABELS = {"run": "name", "checkpoint": "name", "iteration": "t", "prompt": "text", "judge": "template"}
"""The column that stands for a row where another row refers to it."""
UNITS: Mapping[str, Mapping[str, str]] = {"throughput": {"seconds": "s"}}
SETTINGS = {"sql_time_limit_ms": "10000", "suggest_facets": "off", "max_returned_rows": "5000"}
_TYPES = {"integer": "INTEGER", "number": "REAL", "text": "TEXT"}


def metadata(database: Database) -> dict[str, Any]:
    """All of it. Raises BadInput for PostgreSQL, which datasette cannot open."""
    file = database_file(database)
    described = {
        "source": "Self-Rewarding Language Models",
        "source_url": PAPER,
        "tables": {**_tables(), **_views()},
        "queries": {query.name: _canned(query) for query in saved_queries()},
    }
    return {
        "title": "selfreward",
        "description": "Every prompt, candidate, judgement, pair, checkpoint and training step of a run.",
        "databases": {file.stem: described},
    }


def database_file(database: Database) -> Path:
    """The SQLite file. Raises BadInput where there is none."""
    if not database.is_sqlite:
        raise BadInput(
            "datasette opens SQLite files, and this run is in PostgreSQL",
            "Look at it with `selfreward serve` or `selfreward query`, or with any client of PostgreSQL.",
        )
    return Path(str(database.url.database))


def write(database: Database, directory: Path) -> Path:
    """Write it as metadata.json into `directory`, which is made when missing; returns that file."""
    described = metadata(database)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE
    write_durably(path, json.dumps(described, indent=1, ensure_ascii=False))
    return path


def command(database: Path, described: Path, *, immutable: bool = False) -> str:
    """How to open a database with it. Immutable is for copies: it looks at no lock and no log beside them."""
    settings = (f"--setting {name} {value}" for name, value in SETTINGS.items())
    which = "--immutable " if immutable else ""
    shown = (shlex.quote(str(path)) for path in (database, described))
    return "datasette serve {which}{0} --metadata {1} {rest}".format(
        *shown, which=which, rest=" ".join(settings)
    )


def _tables() -> dict[str, Any]:
    hidden = {name: {"hidden": True} for name in HIDDEN}
    return hidden | {name: _table(name) for name in Table.metadata.tables}


def _table(name: str) -> dict[str, Any]:
    table = Table.metadata.tables[name]
    found: dict[str, Any] = {
        "description": table.comment or "",
        "columns": {column.name: column.comment for column in table.columns if column.comment},
    }
    if name in FACETS:
        found["facets"] = list(FACETS[name])
    if name in NEWEST_FIRST:
        found["sort_desc"] = "id"
    if name in LABELS:
        found["label_column"] = LABELS[name]
    if name == "prompt":
        found |= {"fts_table": "prompt_search", "fts_pk": "id"}
    return found


def _views() -> dict[str, Any]:
    return {view.name: _view(view.name, view.comment, view.columns) for view in VIEWS}


def _view(name: str, comment: str, columns: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": comment, "columns": dict(columns)}
    return found | ({"units": dict(UNITS[name])} if name in UNITS else {})


def _canned(query: SavedQuery) -> dict[str, Any]:
    told = [f"{each.name}: {each.meaning} (default {_default(each)})" for each in query.parameters]
    return {
        "title": query.title,
        "description": " ".join([query.answers, *told]),
        "sql": _with_defaults(query),
        "params": [parameter.name for parameter in query.parameters],
    }


def _with_defaults(query: SavedQuery) -> str:
    """The SQL with each parameter as a number where it is one, and as its default where it is ''."""
    parameters = {parameter.name: parameter for parameter in query.parameters}
    if not parameters:
        return query.sql
    pattern = rf"(?<![:\w]):({'|'.join(parameters)})\b"
    return re.sub(pattern, lambda found: _value(parameters[found[1]]), query.sql)


def _value(parameter: Parameter) -> str:
    given = f"CAST(nullif(:{parameter.name}, '') AS {_TYPES[parameter.kind]})"
    return given if parameter.default is None else f"coalesce({given}, {_default(parameter)})"


def _default(parameter: Parameter) -> str:
    if parameter.default is None:
        return "none"
    text = str(parameter.default)
    return "'" + text.replace("'", "''") + "'" if isinstance(parameter.default, str) else text
