"""Reading the judge's replies: from free text to a score of 0–5, or an honest "cannot be read"."""

import re
from collections import deque

from selfreward.types import JudgementStatus

MAX_SCORE = 5.0

GUIDED_REGEX = r"[A-Z][^.!?\n]{20,120}[.!?]( [A-Z][^.!?\n]{10,120}[.!?])?\nScore: [0-5]"
"""Shape of a guided judgement: one or two sentences on one line, then the score. Every repetition is
bounded, so that a model that rambles is led to the score within a known number of characters; larger
bounds make the server slower to compile it."""

Reading = tuple[JudgementStatus, float | None]

# Every repetition below is bounded, which keeps matching linear in the length of the reply.
# Digits are [0-9] throughout: \d would read full-width and Arabic-Indic digits too.
_NUMBER = r"(?P<number>[-+−]?[0-9]{1,6}(?:[.,][0-9]{1,6}){0,3})"
_LABELLED = re.compile(
    r"""
    (?<![^\W_]) score [\s*_`"']{0,8}
    (?: \( [^()\n]{0,24} \) [\s*_`"']{0,8} )?      # Score (0-5): 4
    [:=：] (?P<gap> [\s*_`"'<\[(]{0,16} )
    """
    + _NUMBER,
    re.IGNORECASE | re.VERBOSE,
)
_BARE = re.compile(rf"[ \t*_`]{{0,8}}{_NUMBER}(?P<rest>[ \t*_`]{{0,4}}(?:/|out).{{0,24}})", re.IGNORECASE)
_DECIMAL = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")
_GLUED = re.compile(
    r"""
      [^\W_]                                              # 4th, 4½, 4 and a full-width digit
    | [.,…]{1,3} \d                                       # 4.1.1.1.1, 4..5
    | [ \t]{0,2} %
    | [ \t]{0,4} (?: [-–—~+=] | to\b | or\b ) [ \t]{0,4} [0-9]    # 0-5, 3 or 4, 1 + 1 + 1
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SCALE = re.compile(
    r"""[ \t*_`"'>\])]{0,8} \(? (?: / | out\s{1,4}of\b ) [ \t*_`]{0,8}
        (?P<scale> [0-9]{1,6} (?:\.[0-9]{1,6})? (?![^\W_]) )?""",
    re.IGNORECASE | re.VERBOSE,
)
_END_OF_LINE = re.compile(r"[ \t*_`\"'>\]).]{0,16}(?:\n|$)")
_REST = 64
"""Characters after a number that can change what it means."""


def parse_score(text: str) -> Reading:
    """How the judge's reply was read, and the score 0–5 if it could be.

    `text` is newly generated text only: a prompt that was passed in would bring the scores that are
    written in the response under judgement. The last `Score: …` counts, else a last line such as
    "4 out of 5". `read` comes with a score in [0, 5]; numbers outside it and other scales (8/10) are
    `out_of_range`; ranges, sums, percentages and everything else are `unreadable`. Never raises.
    """
    last = deque(_LABELLED.finditer(text), maxlen=1)
    if last:
        found = last[0]
        rest = text[found.end() : found.end() + _REST]
        return _read(found["number"], rest, alone="\n" in found["gap"])
    bare = _BARE.fullmatch(text.rstrip().rpartition("\n")[2].strip())
    return _read(bare["number"], bare["rest"], alone=True) if bare else (JudgementStatus.UNREADABLE, None)


def _read(number: str, rest: str, alone: bool) -> Reading:
    """The meaning of a number and the text that follows it.

    `alone`: nothing else may stand on its line. A number below "Score:" may be the first of a list.
    """
    digits = number.replace("−", "-")
    scale = _SCALE.match(rest)
    after = rest[scale.end() :] if scale else rest
    if (
        not _DECIMAL.fullmatch(digits)
        or _GLUED.match(rest)
        or (scale and not scale["scale"])
        or (alone and not _END_OF_LINE.match(after))
    ):
        return JudgementStatus.UNREADABLE, None
    score = float(digits)
    if not 0 <= score <= MAX_SCORE or (scale and float(scale["scale"]) != MAX_SCORE):
        return JudgementStatus.OUT_OF_RANGE, None
    return JudgementStatus.READ, abs(score)  # no −0.0
