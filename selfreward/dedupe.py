"""Which written prompts are kept: the filters of Self-Instruct (arXiv 2212.10560) and its ROUGE-L pool.

ROUGE-L F of two token sequences is 2·LCS / (m + n), which is what `rapidfuzz` calls the normalised
Indel similarity. With every distinct token written as one code point, a prompt is a plain string and
the search through the pool runs in C++; only the few best hits are scored again in `rouge_score`'s
own order of operations, so that a decision at the threshold is the one `rouge_score` would make.
"""

import re
import string
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz import process
from rapidfuzz.distance import Indel, LCSseq

from selfreward.config import SelfInstructSettings
from selfreward.types import RejectReason

_TOKEN = re.compile(r"[a-z0-9]+")
_UNKNOWN = chr(0)
_SURROGATES = range(0xD800, 0xE000)
_SLACK = 1e-5
"""rapidfuzz drops hits whose ratio is less than about 1e-7 above its `score_cutoff`, in `extractOne` too,
where the cutoff is the best so far. Whatever is this near to the best is therefore scored again."""


def first_objection(text: str, cut_off: bool, settings: SelfInstructSettings) -> RejectReason | None:
    """Why `text` is no good as a prompt whatever else is in the pool, or None when nothing is wrong.

    `cut_off`: the reply ended at the length limit. Words are counted between white space; forbidden
    words count as whole words, in any case, with any white space inside ("go to").
    """
    text = text.strip()
    words = len(text.split())
    objections = {
        RejectReason.EMPTY: not text,
        RejectReason.CUT_OFF: cut_off,
        RejectReason.TOO_SHORT: words < settings.min_words,
        RejectReason.TOO_LONG: words > settings.max_words,
        RejectReason.KEYWORD: bool(_whole_words(settings.forbidden_words).search(text)),
        RejectReason.BAD_START: _starts_badly(text),
    }
    return next((reason for reason, holds in objections.items() if holds), None)


def _starts_badly(text: str) -> bool:
    first = text[:1]
    return text.lower().startswith("write a program") or first in string.punctuation or not first.isascii()


@lru_cache(maxsize=16)
def _whole_words(words: tuple[str, ...]) -> re.Pattern[str]:
    phrases = [r"\s+".join(map(re.escape, word.split())) for word in words if word.strip()]
    if not phrases:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The text of a pool most like a new one. `rouge_l` is the F measure, 0–1."""

    key: int
    rouge_l: float


class RougePool:
    """Texts to keep new ones apart from, by ROUGE-L F over `rouge_score`'s default tokens (no stemmer).

    Holds up to about 1.1 million distinct tokens (one code point each). Only `add` changes it.
    """

    def __init__(self, max_rouge_l: float) -> None:
        self._max_rouge_l = max_rouge_l
        self._keys: list[int] = []
        self._texts: list[str] = []
        self._code_points: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: int, text: str) -> None:
        """Put `text` in the pool under the caller's `key`."""
        tokens, known = _tokenise(text), self._code_points
        for token in tokens:
            if token not in known:
                known[token] = _code_point(len(known))
        self._keys.append(key)
        self._texts.append("".join(map(known.__getitem__, tokens)))

    def nearest(self, text: str) -> Nearest | None:
        """The exact nearest neighbour of `text`: greatest F, the first added among equals; None if empty.

        `rouge_l` equals, bit for bit, `rouge_score`'s `score(target, prediction)["rougeL"].fmeasure`
        with the pool's text as target and the new one as prediction. (The other way round gives the
        same bits: 2·P·R / (P + R) is symmetric in floating point too.)
        """
        if not self._keys:
            return None
        encoded = self._encode(text)
        scored = [(rouge_l_f(self._texts[i], encoded), i) for i in self._closest(encoded)]
        rouge_l, index = max(scored, key=lambda pair: (pair[0], -pair[1]))
        return Nearest(key=self._keys[index], rouge_l=rouge_l)

    def too_similar(self, nearest: Nearest | None) -> bool:
        """Whether a text with this nearest neighbour must be rejected: F above the limit, not at it."""
        return nearest is not None and nearest.rouge_l > self._max_rouge_l

    def _closest(self, encoded: str) -> list[int]:
        """Indices whose ratio is the greatest or so near that F must decide; [0] if no token is shared.

        Even equal ratios (7/10, 14/20) can have F measures that differ in the last bit.
        """
        if not encoded:
            return [0]  # Indel calls two empty strings equal; rouge_score gives them 0
        scorer = Indel.normalized_similarity
        best = process.extractOne(encoded, self._texts, scorer=scorer)
        if best is None or not best[1]:
            return [0]
        cutoff = max(0.0, best[1] - _SLACK)
        hits = process.extract(encoded, self._texts, scorer=scorer, score_cutoff=cutoff, limit=None)
        return [index for _, _, index in hits]

    def _encode(self, text: str) -> str:
        """One code point a token. A token the pool has never seen matches nothing, so one stands for all."""
        return "".join(self._code_points.get(token, _UNKNOWN) for token in _tokenise(text))


def rouge_l_f(target: str, prediction: str) -> float:
    """ROUGE-L F of two encoded texts, in the order of operations of `rouge_score`."""
    common = LCSseq.similarity(target, prediction)
    if not common:
        return 0.0
    precision = common / len(prediction)
    recall = common / len(target)
    return 2 * precision * recall / (precision + recall)


def _tokenise(text: str) -> list[str]:
    return _TOKEN.findall(text.lower())


def _code_point(number: int) -> str:
    """The character for the `number`-th token: 0 is kept for unknown tokens, surrogates are left out."""
    code = number + 1
    return chr(code if code < _SURROGATES.start else code + len(_SURROGATES))
