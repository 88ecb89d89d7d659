"""What the fake engine says: a task, a judgement, a comparison or an answer, as seed and prompt decide."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfreward.engines.fake_regex import matching_text

MAX_LOGPROB, MIN_LOGPROB = -0.01, -3.0
UNREADABLE_SHARE = 0.05
COPY_SHARE = 0.15

# The last opening tag counts: a rubric may speak of the tag before it uses it.
_RESPONSE = re.compile(r"<response>((?:(?!<response>).)*)</response>", re.DOTALL)
_COMPARED = tuple(
    re.compile(rf"<response_{place}>((?:(?!<response_{place}>).)*)</response_{place}>", re.DOTALL)
    for place in (1, 2)
)
_META_JUDGED = tuple(
    re.compile(rf"<judgement_{place}>((?:(?!<judgement_{place}>).)*)</judgement_{place}>", re.DOTALL)
    for place in (1, 2)
)
# Asked for in words, or by a list that breaks off after a number.
_NEW_TASK = re.compile(
    r"\bnew (task|instruction|prompt)\b|^\s*(task )?\d+[.:]\s*\Z", re.IGNORECASE | re.MULTILINE
)


# Asked to think in writing before a verdict.
_REASONING = re.compile(r"\bstrengths and the faults\b")


def _choices(text: str) -> tuple[str, ...]:
    """The entries of a list written as text, separated by semicolons."""
    return tuple(entry.strip() for entry in text.split(";"))


VERBS = _choices(
    "Describe; Explain; Compare; Summarise; Invent; Plan; Rewrite; Criticise; Praise; Outline; Translate; "
    "Justify; Predict; Question; Simplify; Introduce; Recommend; Analyse; Defend; Narrate; Classify; "
    "Estimate; Illustrate; Paraphrase"
)
FORMS = _choices(
    "a short letter about; three lesser-known facts about; the history of; a recipe inspired by; a riddle "
    "whose answer is; the costs and benefits of; a bedtime story about; a checklist for; a polite "
    "complaint about; a slogan for; a dialogue between two neighbours about; the physics behind; a "
    "beginner's guide to; common mistakes with; a fair rule for sharing; a weekly timetable for; an "
    "unusual use of; a newspaper headline on; a poem in four lines about; a safety notice for"
)
THINGS = _choices(
    "lighthouses; sourdough bread; night trains; rain barrels; chess openings; old bridges; street "
    "musicians; beehives; compost heaps; paper boats; telescopes; winter coats; village markets; borrowed "
    "books; solar eclipses; bicycle brakes; coral reefs; wooden toys; job interviews; house plants; "
    "volcanoes; pocket watches; school libraries; football referees; tea ceremonies; mountain huts; bank "
    "accounts; garden snails; opera singers; electric kettles; traffic lights; pen friends; "
    "thunderstorms; apple orchards; ferry boats; fire drills; sand dunes; museum guards; wool blankets; "
    "puppets"
)
READERS = _choices(
    "for a curious child; for a tired nurse; for a new colleague; for someone who disagrees; for a class "
    "of ten; for a visitor from abroad; for your grandmother; for a busy mayor; for an astronaut; for a "
    "sceptical friend; for a first-time parent; for a retired sailor; for a shy student; for the local "
    "council; for a night watchman"
)
LIMITS = _choices(
    "in exactly five sentences; without the letter q; using one example; and end with a question; as a "
    "numbered list; in plain words; and name one risk; with a touch of humour; and give a source of "
    "further reading; in fewer than eighty words; and correct one popular belief; step by step; as if it "
    "were the year 1900"
)
WORDS = _choices(
    "first; then; because; water; light; people; often; small; reason; work; morning; simple; answer; "
    "time; careful; slowly; help; reader; example; result; change; number; garden; question; useful; "
    "clear; almost; never; before; after; under; question; behind; warm; cold; early; late; every; other; "
    "strong; quiet; bright; narrow; road; hand; word; idea; step; rule; cause; effect"
)
REMARKS = _choices(
    "The response stays on topic; It covers a good part of the request; The basic elements are there; It "
    "reads well; It wanders in places; An example would help; The order is sensible; It leaves one point "
    "open; It is rather thin"
)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One scripted completion; its tokens are its words."""

    text: str
    tokens: list[str]
    logprobs: list[float]
    finish_reason: str


def reply_to(seed: int, texts: Sequence[str], sample: int, body: dict[str, Any]) -> Reply:
    """Sample number `sample` of the reply to `texts` (messages, or one raw prompt), cut as `body` asks."""
    key = "\0".join([str(seed), str(sample), *texts])
    draw = random.Random(key.encode("utf-8", "surrogatepass"))
    text = _script(texts[-1] if texts else "", draw)
    regex = (body.get("structured_outputs") or {}).get("regex")
    if regex and not re.fullmatch(regex, text):
        text = matching_text(regex, draw)
    text, finish_reason = _cut(text, body)
    tokens = re.findall(r"\S+\s*", text)
    logprobs = [round(draw.uniform(MIN_LOGPROB, MAX_LOGPROB), 4) for _ in tokens]
    return Reply(text=text, tokens=tokens, logprobs=logprobs, finish_reason=finish_reason)


def _script(prompt: str, draw: random.Random) -> str:
    if judgements := meta_judged(prompt):
        return comparison(*judgements, draw).replace("Better response", "Winner")
    if pair := compared(prompt):
        verdict = comparison(*pair, draw)
        return f"{reasoning(draw)}\n{verdict}" if _REASONING.search(prompt) else verdict
    if (response := judged(prompt)) is not None:
        return judgement(response, draw)
    if _NEW_TASK.search(prompt):
        return new_task(draw)
    return answer(draw)


def judged(prompt: str) -> str | None:
    """The response that is to be judged, if that is what the prompt is about."""
    found = _RESPONSE.findall(prompt)
    return found[-1].strip() if found else None


def compared(prompt: str) -> tuple[str, str] | None:
    """The two responses that are to be compared, if that is what the prompt is about."""
    first, second = (pattern.findall(prompt) for pattern in _COMPARED)
    return (first[-1].strip(), second[-1].strip()) if first and second else None


def meta_judged(prompt: str) -> tuple[str, str] | None:
    """The two judgements that are to be compared, if that is what the prompt is about."""
    first, second = (pattern.findall(prompt) for pattern in _META_JUDGED)
    return (first[-1].strip(), second[-1].strip()) if first and second else None


def new_task(draw: random.Random) -> str:
    """Mostly a sentence unlike the others; sometimes one of a few stock tasks, for filters to turn away."""
    if draw.random() < COPY_SHARE:
        return f"Explain the history of {draw.choice(THINGS[:4])} for a curious child."
    words = (VERBS, FORMS, THINGS, READERS, LIMITS)
    verb, form, thing, reader, limit = (draw.choice(choices) for choices in words)
    return f"{verb} {form} {thing} {reader} {limit}."


def answer(draw: random.Random) -> str:
    """10–60 words in sentences."""
    words = [draw.choice(WORDS) for _ in range(draw.randint(10, 60))]
    starts = range(0, len(words), 9)
    return " ".join(" ".join(words[start : start + 9]).capitalize() + "." for start in starts)


def judgement(response: str, draw: random.Random) -> str:
    """A justification and a score that depends on the response, with some noise; now and then unreadable."""
    remarks = ". ".join(draw.sample(REMARKS, 2))
    if draw.random() < UNREADABLE_SHARE:
        return f"{remarks}. I would rather not give a number."
    score = min(5, max(0, quality(response) + draw.choice((-1, 0, 0, 0, 1))))
    return f"{remarks}.\nScore: {score}"


def comparison(first: str, second: str, draw: random.Random) -> str:
    """The better of two responses, with some noise; now and then unreadable."""
    if draw.random() < UNREADABLE_SHARE:
        return "Both have their merits."
    lead = quality(first) - quality(second) + draw.choice((-1, 0, 0, 1))
    better = draw.choice((1, 2)) if lead == 0 else 1 if lead > 0 else 2
    return f"Better response: {better}"


def reasoning(draw: random.Random) -> str:
    """A remark on each of two responses."""
    first, second = draw.sample(REMARKS, 2)
    return f"Of the first: {first.lower()}. Of the second: {second.lower()}."


def quality(response: str) -> int:
    """0–5, fixed by the text."""
    key = response.encode("utf-8", "surrogatepass")
    return random.Random(key).choice((0, 1, 2, 2, 3, 3, 4, 4, 5)) if response else 0


def _cut(text: str, body: dict[str, Any]) -> tuple[str, str]:
    """(text, finish reason): ended before a stop string, then after max_tokens words."""
    stops = body.get("stop") or []
    places = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops)]
    text = text[: min((place for place in places if place >= 0), default=len(text))]
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    limit = int(body["max_tokens"])
    if len(ends) > limit:
        return text[: ends[limit - 1]], "length"
    return text, "stop"
