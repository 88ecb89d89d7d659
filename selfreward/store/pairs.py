"""Preference pairs: the scored prompts they are drawn from, the decisions, the texts to train on."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, func, select, update

from selfreward.store.candidates import move_cursor
from selfreward.store.database import Database
from selfreward.store.rows import insert_new, now
from selfreward.store.schema import Candidate, Iteration, Judgement, PairDecision, PreferencePair, Prompt
from selfreward.types import (
    CandidateStatus,
    PairOutcome,
    PromptStatus,
    ScoredCandidate,
    ScoredPrompt,
    TrainingPair,
)
from selfreward.types import PairDecision as Decision


class Pairs:
    """Queries about preference pairs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def undecided(self, data_iteration_id: int, judge_id: int, after: int, limit: int) -> list[ScoredPrompt]:
        """Accepted prompts with an id above `after`, with their candidates and readable scores."""
        query = (
            select(Prompt.id, Prompt.text)
            .where(
                Prompt.iteration_id == data_iteration_id,
                Prompt.status == PromptStatus.ACCEPTED,
                Prompt.id > after,
            )
            .order_by(Prompt.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            prompts = connection.execute(query).all()
            if not prompts:
                return []
            # A range is one way into an index, where each of some hundred ids would be one. What another run
            # has written between them is found too, and left alone.
            of_these = Candidate.prompt_id.between(prompts[0].id, prompts[-1].id)
            candidates = _scored_candidates(connection, judge_id, of_these)
        return [
            ScoredPrompt(id=row.id, text=row.text, candidates=tuple(candidates[row.id])) for row in prompts
        ]

    def decide(
        self, iteration_id: int, judge_id: int, stage_id: int, decisions: Sequence[Decision], cursor: int
    ) -> None:
        """Store decisions and pairs and move the stage's cursor, in one transaction. Repeats are ignored."""
        outcomes = [
            {
                "iteration_id": iteration_id,
                "prompt_id": decision.prompt_id,
                "outcome": decision.outcome,
                "best_score": decision.best_score,
                "worst_score": decision.worst_score,
            }
            for decision in decisions
        ]
        pairs = [
            {
                "iteration_id": iteration_id,
                "prompt_id": decision.prompt_id,
                "judge_id": judge_id,
                "chosen_id": pair.chosen_id,
                "rejected_id": pair.rejected_id,
                "origin": pair.origin,
                "chosen_score": pair.chosen_score,
                "rejected_score": pair.rejected_score,
                "margin": pair.margin,
                "soft_label": pair.soft_label,
                "created_at": now(),
            }
            for decision in decisions
            for pair in decision.pairs
        ]
        with self._database.write() as connection:
            insert_new(connection, PairDecision, outcomes)
            insert_new(connection, PreferencePair, pairs)
            connection.execute(move_cursor(stage_id, cursor))

    def outcomes(self, iteration_id: int) -> dict[PairOutcome, int]:
        """How many prompts came to which outcome."""
        query = (
            select(PairDecision.outcome, func.count())
            .where(PairDecision.iteration_id == iteration_id)
            .group_by(PairDecision.outcome)
        )
        with self._database.read() as connection:
            return {PairOutcome(outcome): count for outcome, count in connection.execute(query)}

    def counts(self, run_id: int) -> dict[int, int]:
        """Pairs that iteration t of a run trains on, by t."""
        query = (
            select(Iteration.t, func.count())
            .join(PreferencePair, PreferencePair.iteration_id == Iteration.id)
            .where(Iteration.run_id == run_id, PreferencePair.excluded.is_(None))
            .group_by(Iteration.t)
            .order_by(Iteration.t)
        )
        with self._database.read() as connection:
            return {t: count for t, count in connection.execute(query)}

    def training_pairs(self, iteration_id: int, page: int = 500) -> Iterator[TrainingPair]:
        """The pairs an iteration trains on, with their texts, in the order of their ids."""
        after = 0
        while rows := self._training_page(iteration_id, after, page):
            yield from rows
            after = rows[-1].pair_id

    def exclude(self, iteration_id: int, pair_ids: Sequence[int]) -> None:
        """Mark pairs as too long for the trainer; their rows stay."""
        mine = (PreferencePair.iteration_id == iteration_id) & PreferencePair.id.in_(pair_ids)
        prompts = select(PreferencePair.prompt_id).where(mine)
        with self._database.write() as connection:
            connection.execute(update(PreferencePair).where(mine).values(excluded="too_long"))
            connection.execute(
                update(PairDecision)
                .where(PairDecision.iteration_id == iteration_id, PairDecision.prompt_id.in_(prompts))
                .values(outcome=PairOutcome.PAIR_TOO_LONG)
            )

    def _training_page(self, iteration_id: int, after: int, limit: int) -> list[TrainingPair]:
        chosen, rejected = (Candidate.__table__.alias(name) for name in ("chosen", "rejected"))
        query = (
            select(PreferencePair.id, Prompt.text, chosen.c.text, rejected.c.text)
            .join(Prompt, Prompt.id == PreferencePair.prompt_id)
            .join(chosen, chosen.c.id == PreferencePair.chosen_id)
            .join(rejected, rejected.c.id == PreferencePair.rejected_id)
            .where(
                PreferencePair.iteration_id == iteration_id,
                PreferencePair.excluded.is_(None),
                PreferencePair.id > after,
            )
            .order_by(PreferencePair.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                TrainingPair(pair_id=key, prompt=prompt, chosen=better, rejected=worse)
                for key, prompt, better, worse in connection.execute(query)
            ]


def _scored_candidates(
    connection: Connection, judge_id: int, of_these: ColumnElement[bool]
) -> dict[int, list[ScoredCandidate]]:
    """Candidates of each prompt in the order of their index, with this judge's readable scores."""
    scores: dict[int, list[float]] = defaultdict(list)
    judged = (
        select(Judgement.candidate_id, Judgement.score)
        .join(Candidate, Candidate.id == Judgement.candidate_id)
        .where(of_these, Judgement.judge_id == judge_id, Judgement.score.is_not(None))
        .order_by(Judgement.candidate_id, Judgement.sample)
    )
    for candidate_id, score in connection.execute(judged).all():  # at once: thousands of rows a page
        scores[candidate_id].append(float(score or 0))
    query = (
        select(Candidate.id, Candidate.prompt_id, Candidate.text, Candidate.status)
        .where(of_these)
        .order_by(Candidate.prompt_id, Candidate.candidate_index)
    )
    found: dict[int, list[ScoredCandidate]] = defaultdict(list)
    for key, prompt_id, text, status in connection.execute(query).all():
        candidate = ScoredCandidate(
            id=key, text=text, scores=tuple(scores[key]), status=CandidateStatus(status)
        )
        found[prompt_id].append(candidate)
    return found
