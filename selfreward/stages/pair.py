"""Preference pairs are drawn from the scores: pure, so the same rows always give the same pairs."""

from selfreward.crash import crash_point
from selfreward.pairing import draw_pairs
from selfreward.stages.anchor import anchor_of, pair_settings, wanted
from selfreward.stages.judge import judge_of
from selfreward.stages.mixing import mix
from selfreward.stages.workplace import Drained, Workplace
from selfreward.types import PairOutcome, StageName, Status

PAGE = 250


def run(place: Workplace) -> None:
    """Decide every prompt of the iteration. Raises Drained between two pages when asked to stop."""
    store, judge = place.store, judge_of(place)
    stage = store.runs.begin_stage(place.iteration.id, StageName.PAIR)
    if stage.status is Status.DONE:
        return
    total = store.journal.count(place.iteration, StageName.SELF_INSTRUCT)
    cursor, done = stage.cursor, sum(store.pairs.outcomes(place.iteration.id).values())
    place.reporter.begin(StageName.PAIR, done, total)
    rule, anchor = pair_settings(place), anchor_of(place) if wanted(place) else None
    by = None if anchor is None else anchor.id
    while prompts := store.pairs.undecided(place.data_iteration, judge, cursor, PAGE, by):
        if place.stop.is_set():
            raise Drained
        cursor, done = prompts[-1].id, done + len(prompts)
        decisions = draw_pairs(prompts, rule)
        store.pairs.decide(place.iteration.id, judge, stage.id, decisions, cursor)
        crash_point("pair:stored")
        place.reporter.progress(StageName.PAIR, done)
    mixed = mix(place)
    outcomes, pairs = store.pairs.outcomes(place.iteration.id), store.pairs.own(place.iteration.id)
    detail = describe(outcomes, pairs) + mixed
    store.runs.finish_stage(stage.id, detail)
    place.reporter.end(StageName.PAIR, detail)


def describe(outcomes: dict[PairOutcome, int], pairs: int | None = None) -> str:
    """Outcomes in words, after the number of pairs: a prompt can have several, None is for one each."""
    if pairs is None:
        pairs = outcomes.get(PairOutcome.PAIRED, 0)
    rest = ", ".join(
        f"{count} {outcome}" for outcome, count in sorted(outcomes.items()) if outcome != PairOutcome.PAIRED
    )
    prompts = f"{pairs} pairs from {sum(outcomes.values())} prompts"
    return f"{prompts} ({rest})" if rest else prompts
