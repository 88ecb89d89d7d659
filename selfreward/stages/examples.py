"""Which examples M_1 is trained on, and why the others are not: every one is a row."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from selfreward.config import JudgeSettings
from selfreward.judging import split_at_score
from selfreward.prompting import PromptTemplate
from selfreward.seeds import with_verdicts
from selfreward.selection import agreement, score_line, thin, up_to
from selfreward.stages.judge import judge_id, own_rubric, rubric
from selfreward.stages.workplace import Workplace
from selfreward.types import (
    DropReason,
    ExampleKind,
    NewExample,
    RankedPrompt,
    RankedReply,
    Seed,
    Split,
    StageName,
    StoredReading,
    StoredReply,
)
from selfreward.whereabouts import enter_stage

PASS = 3
"""From this score on, the rubric's third point, a response answers the request."""


def instruct(place: Workplace) -> None:
    """IFT: every training seed that has an answer, up to `bootstrap.max_ift`."""
    most = place.settings.bootstrap.max_ift
    seeds = place.store.prompts.answered(place.run.id)
    place.store.examples.add(
        place.iteration.id,
        [
            NewExample(
                kind=ExampleKind.IFT,
                prompt_id=prompt_id,
                input=text,
                completion=answer,
                drop_reason=None if number < most else DropReason.SURPLUS,
            )
            for number, (prompt_id, text, answer) in enumerate(seeds)
        ],
    )


def from_seeds(place: Workplace) -> None:
    """EFT from the scores and justifications that seeds bring, or that their ranks stand for."""
    template = rubric(place.settings.judge, place.directory)
    ranked = _ranked(place)
    fitting = up_to((len(prompt.replies) for prompt in ranked), place.settings.bootstrap.max_eft)
    examples = [
        _taught(template, prompt, reply, _completion(place, verdict), number < fitting)
        for number, prompt in enumerate(ranked)
        for reply, verdict in zip(prompt.replies, _verdicts(prompt), strict=True)
    ]
    place.store.examples.add(place.iteration.id, examples)


def judged(place: Workplace, judge: int) -> None:
    """EFT from the SFT baseline's own judgements, where they agree with people."""
    settings = place.settings.bootstrap
    template = rubric(place.settings.judge, place.directory)
    ranked = _ranked(place)
    readings = place.store.replies.readings(judge, [prompt.id for prompt in ranked])
    examples: list[NewExample] = []
    for prompt in ranked:
        found = agreement(prompt, readings, settings.samples)
        reason = DropReason.DISAGREES if found.readable else DropReason.UNREADABLE
        chosen = found.readings or {}
        examples += [
            _written(place, template, prompt, reply, chosen.get(reply.id), reason) for reply in prompt.replies
        ]
    place.store.examples.add(
        place.iteration.id, _thinned(examples, settings.max_common_share, settings.max_eft)
    )


def finish(place: Workplace) -> None:
    """Close the stage."""
    enter_stage(StageName.SELECT)
    stage = place.store.runs.begin_stage(place.iteration.id, StageName.SELECT)
    detail = describe(place)
    place.store.runs.finish_stage(stage.id, detail)
    place.reporter.say(f"examples: {detail}")


def describe(place: Workplace) -> str:
    """How many examples were kept of each kind, and why others were not."""
    counts = place.store.examples.counts(place.iteration.id)
    parts = []
    for kind in ExampleKind:
        dropped = sorted((reason, n) for (of, reason), n in counts.items() if of is kind and reason)
        told = ", ".join(f"{n} {reason}" for reason, n in dropped)
        parts.append(f"{counts.get((kind, None), 0)} {kind}" + (f" (left out: {told})" if told else ""))
    return ", ".join(parts)


def judge_settings(place: Workplace) -> JudgeSettings:
    """The baseline writes free text: it is what M_1 will learn to write."""
    update = {"guided": False, "score": "sampled", "samples": place.settings.bootstrap.samples}
    return own_rubric(place.settings.judge).model_copy(update=update)


def judge_row(place: Workplace) -> int:
    """The checkpoint's way of judging for the bootstrap."""
    return judge_id(place, judge_settings(place))


def _ranked(place: Workplace) -> list[RankedPrompt]:
    replies = place.store.replies
    return replies.ranked(replies.prompts(place.run.id, Split.TRAIN))


def _verdicts(prompt: RankedPrompt) -> Sequence[RankedReply]:
    """Scores and justifications of all replies, made from the ranks where the seed has none."""
    replies = tuple(
        RankedReply(text=each.text, rank=each.rank, score=each.score, justification=each.justification)
        for each in prompt.replies
    )
    return with_verdicts(Seed(instruction=prompt.text, replies=replies)).replies


def _completion(place: Workplace, verdict: RankedReply) -> tuple[float, str]:
    """(score, what the judge learns to write)."""
    assert verdict.score is not None
    text = _judgement(place, verdict.score, f"{verdict.justification}\n{score_line(verdict.score)}")
    return verdict.score, text


def _judgement(place: Workplace, score: float, whole: str) -> str:
    """`whole`, or what the judge's scale or `bootstrap.justification` leaves of it."""
    if place.settings.judge.scale == "yes_no":
        return "Yes" if score >= PASS else "No"
    kind = place.settings.bootstrap.justification
    if kind == "text":
        return whole
    word = "Yes." if score >= PASS else "No."
    return f"{word}\n{score_line(score)}" if kind == "word" else score_line(score)


def _taught(
    template: PromptTemplate,
    prompt: RankedPrompt,
    reply: StoredReply,
    verdict: tuple[float, str],
    fits: bool,
) -> NewExample:
    score, completion = verdict
    return NewExample(
        kind=ExampleKind.EFT,
        prompt_id=prompt.id,
        position=reply.position,
        reply_id=reply.id,
        score=score,
        input=template.render(prompt=prompt.text, response=reply.text),
        completion=completion,
        drop_reason=None if fits else DropReason.SURPLUS,
    )


def _written(
    place: Workplace,
    template: PromptTemplate,
    prompt: RankedPrompt,
    reply: StoredReply,
    reading: StoredReading | None,
    reason: DropReason,
) -> NewExample:
    return NewExample(
        kind=ExampleKind.EFT,
        prompt_id=prompt.id,
        position=reply.position,
        reply_id=reply.id,
        reply_judgement_id=None if reading is None else reading.id,
        score=None if reading is None else reading.score,
        input=template.render(prompt=prompt.text, response=reply.text),
        completion="" if reading is None else _judgement(place, reading.score, _without_tail(reading)),
        drop_reason=reason if reading is None else None,
    )


def _without_tail(reading: StoredReading) -> str:
    """The judgement up to its score: what a small model babbles after it is not to be learnt."""
    return f"{split_at_score(reading.raw_text) or ''}{reading.score:g}".strip()


def _thinned(examples: Sequence[NewExample], share: float, most: int) -> list[NewExample]:
    """Without the excess of the commonest score, and no more than `most`."""
    scores = {
        example.reply_id: example.score
        for example in examples
        if example.reply_id is not None and example.score is not None
    }
    common = thin(scores, share)
    surplus = set(list(key for key in scores if key not in common)[most:])
    return [_dropped(example, common, surplus) for example in examples]


def _dropped(example: NewExample, common: AbstractSet[int], surplus: AbstractSet[int]) -> NewExample:
    if example.reply_id in common:
        return replace(example, drop_reason=DropReason.COMMON_SCORE)
    if example.reply_id in surplus:
        return replace(example, drop_reason=DropReason.SURPLUS)
    return example
