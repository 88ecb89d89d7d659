"""A run with two iterations, a seed and a fork, written through the store: what reading is tested on."""

import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from selfreward.config import Settings
from selfreward.pairing import draw_pairs
from selfreward.store import Store
from selfreward.store.browse import Browse
from selfreward.store.forks import Reuse
from selfreward.store.schema import Candidate
from selfreward.types import (
    CandidateStatus,
    CheckpointKind,
    IterationRow,
    JudgementStatus,
    NewCandidate,
    NewJudgement,
    PromptStatus,
    RejectReason,
    RunRow,
    Seed,
    StageName,
    WrittenPrompt,
)
from tests.conftest import Filled, new_database

VOCABULARY = ("silk", "sand", "rope", "ice", "Name", "Explain", "three", "of", "uses", "wool")
REASONS = (RejectReason.SIMILAR, RejectReason.TOO_SHORT)


@dataclass(frozen=True, kw_only=True)
class Browsed:
    """The runs and who reads them."""

    filled: Filled
    browse: Browse
    run: RunRow
    fork: RunRow
    second: IterationRow


def open_copy(request: pytest.FixtureRequest, directory: Path) -> Store:
    """A store at the head revision of the kind that `request` names, for a whole module to read."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), directory / "selfreward.db")
        return Store("sqlite:///selfreward.db", directory)
    template = request.getfixturevalue("postgres_template")
    return Store(new_database(request.getfixturevalue("postgres_uri"), template), directory)


def make_browsed(store: Store, prompts: int = 6) -> Browsed:
    """Iterations 1 and 2 of as many prompts; the fork goes on from iteration 1 with its judgements."""
    filled = Filled(store)
    store.prompts.add_seeds(filled.run.id, [Seed(instruction="Why is silk soft?", origin="seeds.jsonl")])
    first = filled.iteration
    write(filled, prompts)
    m_2 = store.runs.finish_iteration(first, CheckpointKind.DPO, "models/M_2", "digest-2")
    fork = store.forks.make(
        "beta05",
        filled.run,
        filled.checkpoint,
        Settings.model_validate({"train": {"beta": 0.5}}),
        shares_seeds=True,
        reuse=Reuse.JUDGEMENTS,
    )
    filled.iteration = store.runs.open_iteration(filled.run.id, 2, m_2.id, filled.settings)
    filled.judge = store.candidates.judge(m_2.id, "rubric", "t.jinja", "0" * 64, {"guided": False})
    store.runs.set_judge(filled.iteration.id, filled.judge)
    write(filled, prompts)
    forked = store.runs.iteration(fork, 1)
    assert forked is not None
    stage = store.runs.begin_stage(forked.id, StageName.PAIR)
    decide(store, forked, stage.id)
    runs = {run.name: run for name in ("main", "beta05") if (run := store.runs.find(name))}
    return Browsed(
        filled=filled,
        browse=Browse(store.database),
        run=runs["main"],
        fork=runs["beta05"],
        second=filled.iteration,
    )


def write(filled: Filled, prompts: int) -> None:
    """Prompts of an iteration, every fourth one rejected, their candidates, judgements and pairs."""
    store, iteration = filled.store, filled.iteration
    stage = filled.stage(StageName.SELF_INSTRUCT)
    accepted: dict[int, int] = {}
    for number in range(prompts):
        reason = REASONS[number // 4 % 2] if number % 4 == 3 else None
        written = WrittenPrompt(
            draw=number + 1,
            draw_index=0,
            text=" ".join(random.Random(iteration.t * 1_000 + number).sample(VOCABULARY, 5)),
            status=PromptStatus.REJECTED if reason else PromptStatus.ACCEPTED,
            reject_reason=reason,
            nearest_prompt_id=1,
            nearest_rouge_l=0.25,
            demonstration_ids=(1,),
        )
        key = store.prompts.add_written(filled.run.id, iteration.id, stage.id, written)
        if reason is None:
            accepted[key] = number
    candidates = [candidate for key in accepted for candidate in answers(key)]
    store.candidates.add(iteration.id, filled.stage(StageName.SAMPLE).id, None, candidates, 0)
    judge(filled, accepted)
    for name in (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE):
        store.runs.finish_stage(filled.stage(name).id, "as told")
    decide(store, iteration, filled.stage(StageName.PAIR).id)


def answers(prompt_id: int) -> list[NewCandidate]:
    """Three candidates of a prompt."""
    return [
        NewCandidate(
            prompt_id=prompt_id,
            index=index,
            text=text,
            status=CandidateStatus.OK,
            finish_reason="stop",
            token_count=4,
            mean_logprob=-0.5,
        )
        for index, text in enumerate(("A good answer.", "A poor answer.", "An answer."))
    ]


def judge(filled: Filled, accepted: Mapping[int, int]) -> None:
    """Two candidates alike in score for every fifth prompt; the third one never readable."""
    with filled.store.database.read() as connection:
        query = select(Candidate.id, Candidate.prompt_id, Candidate.candidate_index)
        rows = connection.execute(query.where(Candidate.prompt_id.in_(accepted))).all()
    judgements = []
    for key, prompt_id, index in rows:
        number = accepted[prompt_id]
        best = float(1 + number % 5)
        scores = ([best, best], [0.5 if number % 5 else best], [None])[index]
        judgements += [judgement(key, sample, score) for sample, score in enumerate(scores)]
    stage = filled.stage(StageName.JUDGE)
    filled.store.candidates.add_judgements(filled.judge, stage.id, None, judgements, 0)


def judgement(candidate_id: int, sample: int, score: float | None) -> NewJudgement:
    """One; None is an unreadable one."""
    return NewJudgement(
        candidate_id=candidate_id,
        sample=sample,
        raw_text=f"Score: {score}",
        status=JudgementStatus.UNREADABLE if score is None else JudgementStatus.READ,
        score=score,
        token_count=3,
        finish_reason="stop",
    )


def decide(store: Store, iteration: IterationRow, stage_id: int) -> None:
    """Draw the pairs of an iteration."""
    judge_id = store.runs.judge(iteration.id)
    assert judge_id is not None
    scored = store.pairs.undecided(iteration.data_iteration_id, judge_id, 0, 1_000)
    decisions = draw_pairs(scored, Settings().pair)
    store.pairs.decide(iteration.id, judge_id, stage_id, decisions, 1_000)
