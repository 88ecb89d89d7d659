"""What a user typed as a query of a database's full-text search, in which nothing is syntax."""

from collections.abc import Sequence

from selfreward.text import clean


def words_of(typed: str) -> list[str]:
    """What a user typed, word by word; what has neither letter nor digit finds nothing and is left out."""
    return [word for word in clean(typed).split() if any(char.isalnum() for char in word)]


def match_sqlite(words: Sequence[str]) -> str:
    """The words as an FTS5 query in which nothing is syntax, the last one as a beginning."""
    return " ".join('"' + word.replace('"', '""') + '"' for word in words) + "*"


def match_postgresql(words: Sequence[str]) -> str:
    """The words as to_tsquery reads them, each in quotes, the last one as a beginning."""
    quoted = ["'" + word.replace("\\", "\\\\").replace("'", "''") + "'" for word in words]
    return " & ".join(quoted) + ":*"
