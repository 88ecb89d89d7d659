"""A user's SQL for PostgreSQL, taken apart as far as is needed: its parameters, and what it names.

A read-only transaction of PostgreSQL still calls functions that read files, end other sessions, take locks,
sleep, or run SQL that they are given as text. PostgreSQL itself knows them: it calls them volatile. So does
it with functions that a user made and did not declare harmless. A query that names one is refused.
"""

import re
from collections.abc import Mapping
from typing import Any

from selfreward.errors import BadInput

# What PostgreSQL's own lexer takes for one piece, as far as a piece can hide another. The order matters.
_PIECE = re.compile(
    r"""
      (?P<comment>--[^\n\r]*|/\*.*?\*/)
    | (?P<escape>[uU]&['"])
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<text>'(?:[^']|'')*')
    | (?P<dollar>\$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?)\$.*?\$(?P=tag)\$)
    | "(?P<quoted>(?:[^"]|"")*)"
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<cast>::)
    | (?<![\w\])\[]):(?P<parameter>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
_HARMLESS = frozenset(
    {"random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7"}
    | {"bernoulli", "system"}  # TABLESAMPLE
)
_SECRET = frozenset(
    {"pg_authid", "pg_shadow", "pg_user_mapping", "pg_user_mappings", "pg_subscription", "pg_largeobject"}
    | {"pg_file_settings", "pg_hba_file_rules", "pg_ident_file_mappings", "pg_foreign_server"}
)
_VOLATILE = """
    SELECT DISTINCT CAST(proname AS text) FROM pg_catalog.pg_proc
    WHERE provolatile = 'v' AND proname = ANY(%s) ORDER BY 1
"""
_CASTS = ((bool, "boolean"), (int, "bigint"), (float, "double precision"))


def refuse_side_effects(driver: Any, sql: str) -> None:
    """Raises BadInput when the SQL names a function that can do more than compute, or where secrets are."""
    named = names(sql)
    if secret := named & _SECRET:
        raise BadInput(f"only the run's data can be read here, not {min(secret)}")
    found = driver.execute(_VOLATILE, (sorted(named - _HARMLESS),)).fetchall()
    if found:
        raise BadInput(
            f"only reading is allowed here: {found[0][0]}() can do more than read",
            "A column with such a name can be read by *. A function of your own must be declared STABLE.",
        )


def names(sql: str) -> frozenset[str]:
    """Every identifier of the SQL, as PostgreSQL folds it. Raises BadInput for what could hide one."""
    found: set[str] = set()
    after_escaped = False
    for piece in _PIECE.finditer(sql):
        if piece["comment"] is not None:
            if "/*" in piece["comment"][2:] and piece["comment"].startswith("/*"):
                raise BadInput("a comment within a comment cannot be read here", "Leave it out.")
            continue
        if piece["escape"] or (after_escaped and piece["text"] is not None):
            raise BadInput(
                "U&'…', U&\"…\" and texts in several pieces cannot be read here", "Write one text."
            )
        after_escaped = piece["escaped"] is not None
        if piece["word"] is not None:
            found.add(piece["word"].lower())
        elif piece["quoted"] is not None:
            found.add(piece["quoted"].replace('""', '"'))
    return frozenset(found)


def with_values(sql: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The SQL with its `:name` as psycopg has them, typed, and the values that it needs.

    NULL is written as it is: PostgreSQL could not tell its type. Raises BadInput for a name without a value.
    """
    used: dict[str, Any] = {}

    def placed(piece: re.Match[str]) -> str:
        name = piece["parameter"]
        if name is None:
            return piece[0].replace("%", "%%")
        if name not in values:
            raise no_value(name)
        if values[name] is None:
            return "NULL"
        used[name] = values[name]
        return f"CAST(%({name})s AS {_type_of(values[name])})"

    parts, end = [], 0
    for piece in _PIECE.finditer(sql):
        parts += [sql[end : piece.start()].replace("%", "%%"), placed(piece)]
        end = piece.end()
    return "".join([*parts, sql[end:].replace("%", "%%")]), used


def no_value(name: str) -> BadInput:
    """The SQL has `:name`, and nobody said what it is."""
    return BadInput(f"the query needs a value for :{name}", f"Give one: --param {name}=…")


def _type_of(value: Any) -> str:
    return next((name for kind, name in _CASTS if isinstance(value, kind)), "text")
