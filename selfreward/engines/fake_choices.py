"""The fake engine's next token: whom it prefers and which score it leans to, as seed and texts decide.

Its vocabulary for this is the Unicode characters: the id of a token is its code point.
"""

import math
import random
import re
from collections.abc import Mapping

from selfreward.engines.fake_replies import compared, judged, meta_judged, quality

LOST_SHARE = 0.04
"""Probability of what is no sensible choice: a new line, a letter."""
SPREAD = 0.8
"""Points of the rubric."""
FIRST_BIAS = 0.2
"""How much better, in points, a response looks for being shown first."""

_SCORE_AHEAD = re.compile(r"score\W{0,16}\Z", re.IGNORECASE)
_VERDICT_AHEAD = re.compile(r"\b(?:response|answer|winner)\W{0,16}\Z", re.IGNORECASE)
_DIGIT = re.compile("[0-9]")
_OTHERS = "\nTIA*-abcdefghijklmnop"


def tokenise(text: str, *, split_digits: bool = False) -> list[int]:
    """One token for each character. `split_digits`: two for every digit, as in some tokenizers."""
    if split_digits:
        text = _DIGIT.sub("\N{ZERO WIDTH SPACE}\\g<0>", text)
    return [ord(character) for character in text]


def untokenise(tokens: list[int]) -> str:
    """The text that was tokenised."""
    return "".join(map(chr, tokens))


def conversation(messages: list[Mapping[str, str]], *, begun: bool) -> str:
    """Messages as one text. `begun`: the last one is left open at its end, else a reply is opened."""
    text = "\n".join(f"<|{message['role']}|>\n{message['content']}" for message in messages)
    return text if begun else f"{text}\n<|assistant|>\n"


def next_token(seed: int, text: str) -> dict[str, float]:
    """Probabilities of the next characters that are not unheard of: decreasing, adding up to nearly 1."""
    key = f"{seed}\0{text}".encode("utf-8", "surrogatepass")
    weights = _weights(text, random.Random(key))
    total = math.fsum(weights.values())
    likely = {token: (1 - LOST_SHARE) * weight / total for token, weight in weights.items()}
    rest = dict.fromkeys(_OTHERS, LOST_SHARE / (len(_OTHERS) + 1))
    return dict(sorted((rest | likely).items(), key=lambda item: -item[1]))


def _weights(text: str, draw: random.Random) -> dict[str, float]:
    if (pair := meta_judged(text) or compared(text)) and _VERDICT_AHEAD.search(text):
        lead = quality(pair[0]) - quality(pair[1]) + FIRST_BIAS + draw.uniform(-SPREAD, SPREAD)
        return {"1": math.exp(lead / SPREAD), "2": 1.0}
    response = judged(text)
    if response is not None and _SCORE_AHEAD.search(text):
        place = quality(response) + draw.uniform(-SPREAD, SPREAD) / 2
        return {str(score): math.exp(-(((score - place) / SPREAD) ** 2) / 2) for score in range(6)}
    return {token: draw.random() for token in "0123456789"}
