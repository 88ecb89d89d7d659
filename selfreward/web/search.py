"""What the form above a list of prompts asks for: its fields read, checked, and put back into links.

A form sends its empty fields too, and a link may lack any: what is empty does not matter. Every link that
leads on keeps what was asked for, so that a list can be walked through and a place in it passed on.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from selfreward.errors import BadInput
from selfreward.store.browsed import PromptFilter
from selfreward.types import PairOutcome, PromptSource, PromptStatus, RejectReason
from selfreward.web.site import MOST

Value = TypeVar("Value")

LONGEST = 400
"""Most characters of the words to look for."""
BEST = 5.0
LABELS = {
    "q": "words",
    "t": "iteration",
    "source": "source",
    "outcome": "outcome",
    "status": "status",
    "score_from": "least best score",
    "score_to": "greatest best score",
    "margin_from": "least margin",
    "margin_to": "greatest margin",
}
"""The fields, in the order of the form, as a sentence names them."""
PLACES = ("after", "before")
OUTCOMES: Mapping[str, PairOutcome | RejectReason | PromptStatus] = {
    str(value): value for kind in (PromptStatus, PairOutcome, RejectReason) for value in kind
}


@dataclass(frozen=True, kw_only=True)
class PromptSearch:
    """What was asked for: as it was typed, and as the store takes it."""

    values: Mapping[str, str]
    """The fields that are not empty."""
    wanted: PromptFilter
    after: int | None
    before: int | None

    def link(self, without: str = "", **places: int | None) -> str:
        """The query part of an address that asks for the same, less one field, at another place."""
        kept = {name: value for name, value in self.values.items() if name != without}
        return query_of(kept | {name: str(key) for name, key in places.items() if key is not None})

    @property
    def loosened(self) -> Iterator[tuple[str, str, str]]:
        """Each field as a sentence names it, what was asked for, and the link that asks for all but it."""
        for name, value in self.values.items():
            yield LABELS[name], value, self.link(without=name)


def query_of(values: Mapping[str, str]) -> str:
    """ "?a=b&c=d", or nothing."""
    return f"?{urlencode(values)}" if values else ""


def typed(parameters: Mapping[str, str]) -> dict[str, str]:
    """The fields that are not empty, in the order of the form; names it does not know are left out."""
    found = {name: parameters.get(name, "").strip() for name in LABELS}
    return {name: value for name, value in found.items() if value}


def read_search(parameters: Mapping[str, str]) -> PromptSearch:
    """The search that the parameters of an address ask for. Raises BadInput, naming the field."""
    values = typed(parameters)
    if len(values.get("q", "")) > LONGEST:
        raise BadInput(f"words: at most {LONGEST} characters", "A few words are enough.")
    scores = {name: _number(values, name) for name in LABELS if name.endswith(("_from", "_to"))}
    for name in ("score", "margin"):
        least, most = scores[f"{name}_from"], scores[f"{name}_to"]
        if least is not None and most is not None and least > most:
            raise BadInput(f"{name}: from {least:g} to {most:g} is nothing", "Put the smaller one first.")
    wanted = PromptFilter(
        t=_whole(values.get("t", ""), "iteration"),
        source=_one_of({str(one): one for one in PromptSource}, values, "source")
        or PromptSource.SELF_INSTRUCT,
        outcome=_one_of(OUTCOMES, values, "outcome") or _one_of(OUTCOMES, values, "status"),
        least_score=scores["score_from"],
        most_score=scores["score_to"],
        least_margin=scores["margin_from"],
        most_margin=scores["margin_to"],
        words=values.get("q", ""),
    )
    return PromptSearch(values=values, wanted=wanted, **read_places(parameters))


def read_places(parameters: Mapping[str, str]) -> dict[str, int | None]:
    """`after` and `before`: ids between which pages are turned. Raises BadInput."""
    return {name: _whole(parameters.get(name, "").strip(), name) for name in PLACES}


def _number(values: Mapping[str, str], name: str) -> float | None:
    text = values.get(name)
    if text is None:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value <= BEST:
        raise BadInput(f"{LABELS[name]}: {text[:40]!r} is not a number from 0 to 5", "For example 3.5.")
    return value


def _whole(text: str, what: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and int(text) <= MOST):
        raise BadInput(
            f"{what}: {text[:40]!r} is not a whole number from 0 to {MOST}", "Start at the first page."
        )
    return int(text)


def _one_of(known: Mapping[str, Value], values: Mapping[str, str], name: str) -> Value | None:
    text = values.get(name)
    if text is not None and text not in known:
        raise BadInput(f"{LABELS[name]}: there is no {text[:40]!r}", f"Use one of: {', '.join(known)}.")
    return None if text is None else known[text]
