"""The gates of text: into the database, so that each can hold it, and onto a terminal, which obeys some."""

import hashlib
import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def clean(text: str) -> str:
    """Text that SQLite and PostgreSQL both store as it is: NUL, other control characters and lone
    surrogates become U+FFFD; tab and line ends stay, CR LF becomes LF.
    """
    return _FORBIDDEN.sub(REPLACEMENT, text.replace("\r\n", "\n").replace("\r", "\n"))


def digest(text: str) -> str:
    """sha256 of the text in UTF-8, as hex."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def printable(text: str) -> str:
    """`text` with control characters shown, not sent: a terminal would obey them."""
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\x{ord(char):02x}" for char in text)
