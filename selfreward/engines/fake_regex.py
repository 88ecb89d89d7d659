"""A random text that matches a regular expression, for the fake engine's guided replies."""

import random
import re
from collections.abc import Callable, Sequence

# The parse tree of `re` is not a public module, but it is the one that decides what a pattern means.
from re import _constants as code  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LONGEST_REPEAT = 12
ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:-_!?'\"()\n\t"


def matching_text(pattern: str, draw: random.Random) -> str:
    """A text that `pattern` matches in full; repetitions stay near their minimum."""
    return _sequence(parser.parse(pattern), draw)


def _sequence(items: Sequence[tuple[Any, Any]], draw: random.Random) -> str:
    return "".join(_WRITERS[operator](argument, draw) for operator, argument in items)


def _repeat(argument: Any, draw: random.Random) -> str:
    least, most, inner = argument
    count = draw.randint(least, max(least, min(int(most), least + LONGEST_REPEAT)))
    return "".join(_sequence(inner, draw) for _ in range(count))


def _one_of(argument: Sequence[tuple[Any, Any]], draw: random.Random) -> str:
    """A character that the set itself accepts: negation and classes are left to `re`."""
    literals = [chr(value) for operator, value in argument if operator is code.LITERAL]
    ranges = [chr(draw.randint(*value)) for operator, value in argument if operator is code.RANGE]
    negated = argument[0][0] is code.NEGATE
    choices = literals + ranges if not negated else []
    return draw.choice(choices or [char for char in ALPHABET if _accepts(argument, char)])


def _accepts(argument: Sequence[tuple[Any, Any]], char: str) -> bool:
    tests: dict[Any, Callable[[Any], bool]] = {
        code.LITERAL: lambda value: ord(char) == value,
        code.RANGE: lambda value: bool(value[0] <= ord(char) <= value[1]),
        code.CATEGORY: lambda value: bool(re.fullmatch(_CATEGORIES[value], char)),
        code.NEGATE: lambda value: False,
    }
    hit = any(tests[operator](value) for operator, value in argument)
    return hit != (argument[0][0] is code.NEGATE)


_CATEGORIES = {
    code.CATEGORY_DIGIT: r"\d",
    code.CATEGORY_NOT_DIGIT: r"\D",
    code.CATEGORY_SPACE: r"\s",
    code.CATEGORY_NOT_SPACE: r"\S",
    code.CATEGORY_WORD: r"\w",
    code.CATEGORY_NOT_WORD: r"\W",
}
_WRITERS: dict[Any, Callable[[Any, random.Random], str]] = {
    code.LITERAL: lambda argument, draw: chr(argument),
    code.NOT_LITERAL: lambda argument, draw: draw.choice([c for c in ALPHABET if ord(c) != argument]),
    code.ANY: lambda argument, draw: draw.choice(ALPHABET.replace("\n", "")),
    code.IN: _one_of,
    code.AT: lambda argument, draw: "",
    code.BRANCH: lambda argument, draw: _sequence(draw.choice(argument[1]), draw),
    code.SUBPATTERN: lambda argument, draw: _sequence(argument[-1], draw),
    code.MAX_REPEAT: _repeat,
    code.MIN_REPEAT: _repeat,
    code.POSSESSIVE_REPEAT: _repeat,
}
