"""How much each stage of an iteration is to do, and has done, by its settings and its rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from selfreward.config import Settings
from selfreward.meta_judging import most_disputed
from selfreward.store import Store
from selfreward.store.candidates import JUDGEABLE
from selfreward.types import (
    ExampleKind,
    IterationRow,
    PairOutcome,
    RunRow,
    Split,
    StageName,
    Status,
)

WRITING = (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE)
MEASURING = (StageName.ANSWER_HELD_OUT, StageName.JUDGE_HELD_OUT, StageName.COMPARE)
SELDOM = (*MEASURING, StageName.MEASURE_BASELINE, StageName.META_JUDGE)
"""Their totals take a while to tell and seldom change: when seeds come, or once judging is done."""
ON_PAIRS = ("dpo", "cdpo", "cream", "slic")
"""Objectives that learn from pairs, and from those of judgements."""
UNITS = {
    StageName.SELF_INSTRUCT: "prompts",
    StageName.SAMPLE: "candidates",
    StageName.JUDGE: "judgements",
    StageName.META_JUDGE: "comparisons",
    StageName.JUDGE_PREVIOUS: "judgements",
    StageName.ANCHOR: "answers",
    StageName.JUDGE_ANCHOR: "judgements",
    StageName.ANSWER_HELD_OUT: "answers",
    StageName.JUDGE_HELD_OUT: "judgements",
    StageName.MEASURE_BASELINE: "judgements",
    StageName.COMPARE: "comparisons",
    StageName.SELECT: "examples",
    StageName.PAIR: "prompts",
    StageName.TRAIN_REWARD: "steps",
    StageName.TRAIN: "steps",
    StageName.BASELINE: "steps",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of an iteration when totals are told."""

    store: Store
    settings: Settings
    run: RunRow
    iteration: IterationRow
    statuses: Mapping[StageName, Status]
    counts: Mapping[StageName, int]
    outcomes: Mapping[PairOutcome, int] = field(default_factory=dict)

    def is_done(self, name: StageName) -> bool:
        """Whether a stage has ended well."""
        return self.statuses.get(name) is Status.DONE


def expected(t: int, settings: Settings) -> tuple[StageName, ...]:
    """The stages of iteration t, in the order in which they begin."""
    measured = settings.evaluation.enabled
    independent = (StageName.COMPARE_INDEPENDENT,) if settings.evaluation.independent.model and t > 1 else ()
    measuring = (*MEASURING, *independent, StageName.EVALUATE) if measured else ()
    if t:
        meta = (StageName.META_JUDGE,) if settings.judge.meta.applies(t) else ()
        pairing = (*_of_earlier_models(t, settings), StageName.PAIR, StageName.CHECK)
        return (*WRITING, *meta, *measuring, *pairing, *_trainings(settings))
    judged = (StageName.BASELINE, StageName.JUDGE, StageName.MEASURE_BASELINE)
    return (
        *measuring,
        *(judged if settings.bootstrap.eft == "judged" else ()),
        StageName.SELECT,
        StageName.TRAIN,
    )


def _of_earlier_models(t: int, settings: Settings) -> tuple[StageName, ...]:
    """M_1 has no anchor: it only says so."""
    before = (StageName.JUDGE_PREVIOUS,) if settings.train.objective == "cream" else ()
    if settings.pair.rule != "anchored":
        return before
    return (*before, StageName.ANCHOR, *((StageName.JUDGE_ANCHOR,) if t > 1 else ()))


def _trainings(settings: Settings) -> tuple[StageName, ...]:
    """A reward model is trained within the stage of M_{t+1}."""
    objective, rl = settings.train.objective, settings.train.rl
    own = objective == "rl" and rl.reward == "reward_model" and not settings.judge.reward_model
    rewards = (StageName.TRAIN_REWARD,) if own or objective == "reward_model" else ()
    return (StageName.TRAIN, *rewards)


def count(store: Store, iteration: IterationRow, name: StageName) -> int:
    """Items that a stage of an iteration has done."""
    if iteration.t == 0 and name in _IN_BOOTSTRAP:
        made = store.progress.bootstrap_judgements(iteration)
        return sum(number for key, number in made.items() if _IN_BOOTSTRAP[name](*key))
    return store.journal.count(iteration, name) if name in UNITS else 0


def total(known: Known, name: StageName) -> int | None:
    """Items that a stage will have done in the end, as far as is known."""
    if known.is_done(name):
        return known.counts.get(name, 0) if name in UNITS else None
    if name in (StageName.JUDGE_HELD_OUT, StageName.MEASURE_BASELINE):
        return _held_out_judgements(known)
    if known.iteration.t == 0 and name is StageName.JUDGE:
        return _bootstrap_judgements(known)
    rule = _TOTALS.get(name)
    return None if rule is None else rule(known)


def _prompts(known: Known) -> int:
    """Written as many as are wanted, or as there are when no more come."""
    target = known.settings.self_instruct.target
    if known.is_done(StageName.SELF_INSTRUCT):
        return known.counts.get(StageName.SELF_INSTRUCT, target)
    return target


def _candidates(known: Known) -> int:
    return _prompts(known) * known.settings.sample.candidates


def _judgements(known: Known) -> int:
    """Of what is worth judging: an empty answer is not."""
    statuses = known.store.candidates.statuses(known.iteration.data_iteration_id)
    spared = sum(count for status, count in statuses.items() if status not in JUDGEABLE)
    return max(0, _candidates(known) - spared) * known.settings.judge.wanted


def _judgements_before(known: Known) -> int:
    """M_1 has no model before it, but for M_0 of a bootstrap."""
    first = known.iteration.t == 1 and known.settings.bootstrap.mode != "sft"
    return 0 if first else _judgements(known)


def _anchors(known: Known) -> int:
    return _prompts(known) * known.settings.pair.anchors if known.iteration.t > 1 else 0


def _anchor_judgements(known: Known) -> int:
    there = known.counts.get(StageName.ANCHOR, 0) if known.is_done(StageName.ANCHOR) else _anchors(known)
    return there * known.settings.judge.wanted


def _judgement_comparisons(known: Known) -> int | None:
    """Both orders of every two judgements of the most disputed answers: known when all are judged."""
    judge = known.store.runs.judge(known.iteration.id)
    if judge is None or not known.is_done(StageName.JUDGE):
        return None
    meta, store = known.settings.judge.meta, known.store.meta
    scores = store.written_scores(known.iteration.data_iteration_id, judge)
    compared = (min(len(scores[key]), meta.max_judgements) for key in most_disputed(scores, meta.max_pairs))
    return sum(count * (count - 1) for count in compared)


def _answers(known: Known) -> int:
    return len(known.store.answers.prompts(known.run.id, known.settings.evaluation.prompts))


def _held_out_judgements(known: Known) -> int:
    evaluation, replies = known.settings.evaluation, known.store.replies
    samples = 1 if known.settings.judge.score == "direct" else evaluation.samples
    ranked = replies.held_out(known.run.id, evaluation.replies) if evaluation.enabled else []
    return replies.count(ranked) * samples


def _bootstrap_judgements(known: Known) -> int:
    replies = known.store.replies
    ranked = replies.prompts(known.run.id, Split.TRAIN)
    return replies.count(ranked) * known.settings.bootstrap.samples


def _comparisons(known: Known) -> int:
    """With M_{t-1} and with M_1, both orders of each."""
    t = known.iteration.t
    first = 0 if known.settings.bootstrap.mode == "sft" else 1
    opponents = {version for version in (t - 1, 1) if first <= version < t}
    return 2 * len(opponents) * _answers(known) if known.settings.evaluation.compare else 0


def _steps(known: Known) -> int | None:
    """Of DPO on the pairs, or of SFT on the examples that are kept; not told of other objectives."""
    if known.iteration.t == 0:
        return _sft_steps(known, tuple(ExampleKind)) if known.is_done(StageName.SELECT) else None
    if not known.is_done(StageName.PAIR):
        return None
    train = known.settings.train
    if train.objective not in ON_PAIRS or train.data != "current":
        return None
    return math.ceil(_pairs(known) / train.batch_size) * train.epochs


def _pairs(known: Known) -> int:
    """One for each prompt that gave any, but where a prompt can give several or others come besides."""
    pair, meta = known.settings.pair, known.settings.judge.meta.applies(known.iteration.t)
    judgements = known.store.meta.pair_count(known.iteration.id) if meta else 0
    several = pair.rule == "all_pairs" or pair.imported_share or pair.balance_sources
    if not several:
        return known.outcomes.get(PairOutcome.PAIRED, 0) + judgements
    return known.store.pairs.counts(known.run.id).get(known.iteration.t, 0) + judgements


def _reward_steps(known: Known) -> int | None:
    reward = known.settings.train.reward
    if not known.is_done(StageName.PAIR):
        return None
    return math.ceil(_pairs(known) / reward.batch_size) * reward.epochs


def _baseline_steps(known: Known) -> int:
    return _sft_steps(known, (ExampleKind.IFT,))


def _sft_steps(known: Known, kinds: tuple[ExampleKind, ...]) -> int:
    sft = known.settings.bootstrap.sft
    counts = known.store.examples.counts(known.iteration.id)
    kept = sum(count for (kind, dropped), count in counts.items() if kind in kinds and dropped is None)
    return math.ceil(kept / sft.batch_size) * sft.epochs


_TOTALS: Mapping[StageName, Callable[[Known], int | None]] = {
    StageName.SELF_INSTRUCT: _prompts,
    StageName.SAMPLE: _candidates,
    StageName.JUDGE: _judgements,
    StageName.META_JUDGE: _judgement_comparisons,
    StageName.JUDGE_PREVIOUS: _judgements_before,
    StageName.ANCHOR: _anchors,
    StageName.JUDGE_ANCHOR: _anchor_judgements,
    StageName.ANSWER_HELD_OUT: _answers,
    StageName.COMPARE: _comparisons,
    StageName.PAIR: _prompts,
    StageName.TRAIN_REWARD: _reward_steps,
    StageName.TRAIN: _steps,
    StageName.BASELINE: _baseline_steps,
}
_IN_BOOTSTRAP: Mapping[StageName, Callable[[bool, Split], bool]] = {
    StageName.JUDGE_HELD_OUT: lambda by_m_0, split: by_m_0,
    StageName.JUDGE: lambda by_m_0, split: not by_m_0 and split is Split.TRAIN,
    StageName.MEASURE_BASELINE: lambda by_m_0, split: not by_m_0 and split is Split.HELD_OUT,
}
"""Which judgements of ranked replies are whose: (by M_0 itself, split of the seed)."""
