"""Reading the judge: from free text, or probabilities, to a score of 0–5 or to the better of two responses.

What cannot be read is said to be so.
"""

import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from selfreward.types import Choice, JudgementStatus, Verdict

MAX_SCORE = 5.0
SCORES = ("0", "1", "2", "3", "4", "5")
"""The choices of a judge that is asked for a score right away."""
SCORE_STEM = "Score: "
"""How the line with the score begins in the rubric's format."""
LEAST_MASS = 0.01
"""With less than this on the six scores together the judge meant to write something else."""

GUIDED_REGEX = r"[A-Z][^.!?\n]{20,120}[.!?]( [A-Z][^.!?\n]{10,120}[.!?])?\nScore: [0-5]"
"""Shape of a guided judgement: one or two sentences on one line, then the score. Every repetition is
bounded, so that a model that rambles is led to the score within a known number of characters; larger
bounds make the server slower to compile it."""

ParsedScore = tuple[JudgementStatus, float | None]

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


def parse_score(text: str) -> ParsedScore:
    """How the judge's reply was read, and the score 0–5 if it could be.

    `text` is newly generated text only: a prompt that was passed in would bring the scores that are
    written in the response under judgement. The last `Score: …` counts, else a last line such as
    "4 out of 5". `read` comes with a score in [0, 5]; numbers outside it and other scales (8/10) are
    `out_of_range`; ranges, sums, percentages and everything else are `unreadable`. Never raises.
    """
    found = _statement(text)
    if found is None:
        return JudgementStatus.UNREADABLE, None
    if found.re is _BARE:
        return _read(found["number"], found["rest"], alone=True)
    rest = text[found.end() : found.end() + _REST]
    return _read(found["number"], rest, alone="\n" in found["gap"])


def split_at_score(text: str) -> str | None:
    """The judge's reply up to where its score begins; None unless `parse_score` reads one.

    What ends it is the label that counts, in the judge's own spelling ("Score: ", "**Score:** "), so
    that the model can be asked for the probabilities of the scores at that place. It is empty for a
    reply that is only a score such as "4/5".
    """
    found = _statement(text)
    if found is None or parse_score(text)[0] is not JudgementStatus.READ:
        return None
    return text[: found.start("number")]


def expected_score(choice: Choice) -> float | None:
    """Σ s·P(s) over the scores 0–5, with P renormalised over the six (arXiv 2309.00267, direct RLAIF).

    `choice` holds P(0) … P(5). None, unreadable, when they add up to less than `LEAST_MASS`.
    """
    mass = math.fsum(choice.probabilities)
    if mass < LEAST_MASS:
        return None
    total = math.fsum(score * share for score, share in enumerate(choice.probabilities))
    return min(MAX_SCORE, total / mass)


_YES_NO = re.compile(
    r"""[\s*_`"'(\[]{0,16} (?P<verdict> yes | no ) (?![^\W_])
        (?! \s{0,4} (?: / | \b(?:and|or)\b ) \s{0,4} (?:yes|no)\b )         # Yes or No, repeated""",
    re.IGNORECASE | re.VERBOSE,
)
_YES_NO_SCORES = {"no": 0.0, "yes": MAX_SCORE}


def parse_yes_no(text: str) -> ParsedScore:
    """How a reply to a question was read: 5 when it begins with Yes, 0 when with No, else unreadable."""
    found = _YES_NO.match(text)
    if found is None:
        return JudgementStatus.UNREADABLE, None
    return JudgementStatus.READ, _YES_NO_SCORES[found["verdict"].lower()]


def split_at_yes_no(text: str) -> str | None:
    """The reply up to its Yes or No; None unless `parse_yes_no` reads one."""
    found = _YES_NO.match(text)
    return None if found is None else text[: found.start("verdict")]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a judge's verdict is written as, and how it becomes a score of 0–5."""

    choices: tuple[str, ...]
    """The verdicts, each one token in most tokenizers."""
    scores: tuple[int, ...]
    """What each of them counts."""
    stem: str
    """How a reply begins that gives its verdict right away."""
    regex: str
    """Shape of a guided judgement."""
    read: Callable[[str], ParsedScore]
    split: Callable[[str], str | None]

    def spread(self, choice: Choice) -> Choice:
        """P(0) … P(5) from the probabilities of `choices`."""
        shares = [0.0] * len(SCORES)
        for score, share in zip(self.scores, choice.probabilities, strict=True):
            shares[score] = share
        return Choice(probabilities=tuple(shares), token_count=choice.token_count)


POINTS = Scale(
    choices=SCORES,
    scores=tuple(range(len(SCORES))),
    stem=SCORE_STEM,
    regex=GUIDED_REGEX,
    read=parse_score,
    split=split_at_score,
)
YES_NO = Scale(
    choices=("No", "Yes"),
    scores=(0, 5),
    stem="",
    regex="(Yes|No)",
    read=parse_yes_no,
    split=split_at_yes_no,
)
SCALES = {"points": POINTS, "yes_no": YES_NO}


def _statement(text: str) -> re.Match[str] | None:
    """The last labelled number, else a last line that is a bare score; positions are those of `text`."""
    labelled = deque(_LABELLED.finditer(text), maxlen=1)
    if labelled:
        return labelled[0]
    end = len(text.rstrip())
    start = text.rfind("\n", 0, end) + 1
    start += len(text[start:end]) - len(text[start:end].lstrip())
    return _BARE.fullmatch(text, start, end)


def _read(number: str, rest: str, alone: bool) -> ParsedScore:
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


# Which of two responses is better. `value` is what the statement says, to be read on its own.
_ITEM = r"(?:response|answer|reply|option)"
_MARKS = r"[\s*_`\"'<\[(#]{0,16}"
_ADVERBS = r"(?:(?!(?:not|no|never|hardly|neither)\b)[a-z]{1,14}\s{1,4}){0,3}"
_BETTER = r"(?:better|best|superior|stronger|preferable|preferred|the\s{1,4}winner)\b"
_DECLARED = re.compile(
    rf"""
    (?<![^\W_])
    (?: (?:better|best|superior|preferred|winning) [\s*_`]{{1,8}} (?:{_ITEM}|one) | winner | verdict )
    [\s*_`"']{{0,8}} (?: [:=：] | (?:is|was) (?=[\s:]) :? )
    (?= (?P<value> {_MARKS} [^\n]{{0,48}} ) )         # not used up: the next may stand on the same line
    """,
    re.IGNORECASE | re.VERBOSE,
)
_PREFERRED = re.compile(
    rf"""
      (?<![^\W_]) (?<!\bor[ ]) (?<!\band[ ]) (?<!\bnor[ ]) (?<!\bif[ ])
      {_ITEM} {_MARKS} (?P<number>[0-9]{{1,3}}) [\s*_`"'>\])]{{1,16}} (?:is|was|seems|looks) \s{{1,4}}
      {_ADVERBS} {_BETTER}
    | \bI \s{{1,4}} {_ADVERBS} (?:prefer|choose|pick|select) \s{{1,4}} {_ITEM} {_MARKS}
      (?P<picked>[0-9]{{1,3}}) (?![^\W_])
    """,
    re.IGNORECASE | re.VERBOSE,
)
_VALUE = re.compile(
    rf"""{_MARKS} (?:{_ITEM} {_MARKS})? (?P<number>[12]) (?![^\W_]) (?![.,][0-9])
         (?! [\s*_`"'>\])]{{0,16}} (?: [/|,&+-] | \b(?:or|and|to)\b ) \s{{0,4}}   # 1 or 2, 1/2
             (?:{_ITEM} \s{{0,4}})? [0-9] )""",
    re.IGNORECASE | re.VERBOSE,
)
_LONE = re.compile(
    rf"{_MARKS} (?:{_ITEM} {_MARKS})? [12] [\s*_`\"'>\]).!]{{0,16}}", re.IGNORECASE | re.VERBOSE
)
_VERDICTS = {"1": Verdict.FIRST, "2": Verdict.SECOND}


def parse_verdict(text: str) -> Verdict | None:
    """Which of two responses the judge's reply prefers; None when it does not say, or names both.

    `text` is newly generated text only. The last statement counts, be it labelled ("Better response: 2"),
    a sentence ("Response 1 is better") or a last line that is only the number. Never raises.
    """
    last_line = text.rstrip().rpartition("\n")[2].strip()
    if _LONE.fullmatch(last_line):
        return _named(last_line)
    statements = {found.start(): found["value"] for found in _DECLARED.finditer(text)}
    for found in _PREFERRED.finditer(text):
        statements.setdefault(found.start(), found["number"] or found["picked"])
    return _named(statements[max(statements)]) if statements else None


def _named(value: str) -> Verdict | None:
    found = _VALUE.match(value)
    return _VERDICTS[found["number"]] if found else None
