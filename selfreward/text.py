"""The gates of text: into the database, so that each can hold it, and onto a terminal, which obeys some.

Models write any code point there is, and no database takes them all: PostgreSQL refuses NUL, SQLite's own
functions stop at it, and a lone surrogate has no UTF-8. So the columns of the schema put every text
through `clean` on its way in, which marks what it replaces. The original comes back with `restore`, for
whoever wants to see what was really said. Nothing that goes back to a model is restored: a control
character never helps one, and no tokeniser takes a lone surrogate.
"""

import hashlib
import re
from typing import Any

MARK = "\N{REPLACEMENT CHARACTER}"
"""Stands before the code point, as four upper-case hex digits, of what it replaces."""
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]|\ufffd(?=[0-9A-F]{4})")
_MARKED = re.compile("\ufffd([0-9A-F]{4})")


def clean(text: str) -> str:
    """Text that SQLite and PostgreSQL both store as it is, and from which `restore` makes the original.

    NUL, the other control characters but tab, LF and CR, and lone surrogates become U+FFFD with the code
    point behind it: 0000 for NUL. So does a U+FFFD that only looks like such a mark; others stay alone.
    """
    return _FORBIDDEN.sub(lambda found: f"{MARK}{ord(found[0]):04X}", text)


def restore(text: str) -> str:
    """The text that `clean` was given."""
    return _MARKED.sub(lambda found: chr(int(found[1], 16)), text)


def clean_values(value: Any) -> Any:
    """A JSON value with every text in it cleaned, keys included."""
    return _each_text(value, clean)


def restore_values(value: Any) -> Any:
    """The JSON value that `clean_values` was given."""
    return _each_text(value, restore)


def digest(text: str) -> str:
    """sha256 of the text in UTF-8, as hex."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def fingerprint(text: str) -> str:
    """sha256 by which a text is known again: of what is stored of it, however its lines end."""
    return digest(clean(text.replace("\r\n", "\n").replace("\r", "\n")))


def printable(text: str) -> str:
    """`text` with control characters shown, not sent: a terminal would obey them."""
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _each_text(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each_text(key, change): _each_text(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(inner, change) for inner in value]
    return value
