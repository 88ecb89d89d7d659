"""Preference pairs: the scored prompts they are drawn from, the decisions, the texts to train on."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from selfreward.store.candidates import move_cursor
from selfreward.store.database import Database
from selfreward.store.rows import insert_new, now
from selfreward.store.schema import (
    Candidate,
    CandidateComparison,
    Iteration,
    Judgement,
    PairDecision,
    PreferencePair,
    Prompt,
)
from selfreward.store.scope import history
from selfreward.types import (
    CandidateStatus,
    PairOutcome,
    PromptStatus,
    ScoredCandidate,
    ScoredPrompt,
    TrainingPair,
)
from selfreward.types import PairDecision as Decision

OWN = "ai"
"""The origin of pairs that a judge's scores made."""


class Pairs:
    """Queries about preference pairs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def undecided(
        self, data_iteration_id: int, judge_id: int, after: int, limit: int, anchor_id: int | None = None
    ) -> list[ScoredPrompt]:
        """Accepted prompts with an id above `after`, with their candidates and what the judge said of them.

        With `anchor_id`, a checkpoint, its answers come too.
        """
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
            own = Candidate.checkpoint_id.is_(None)
            taken = own if anchor_id is None else own | (Candidate.checkpoint_id == anchor_id)
            candidates = _scored_candidates(connection, judge_id, of_these & taken)
            preferences = _preferences(connection, judge_id, of_these & taken)
        return [
            ScoredPrompt(
                id=row.id,
                text=row.text,
                candidates=tuple(candidates[row.id]),
                preferences=preferences.get(row.id, {}),
            )
            for row in prompts
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

    def own(self, iteration_id: int) -> int:
        """How many pairs that a judge's scores made an iteration trains on."""
        mine = (PreferencePair.iteration_id == iteration_id) & (PreferencePair.origin == OWN)
        query = select(func.count()).where(mine, PreferencePair.excluded.is_(None))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

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

    def training_pairs(
        self, iteration_id: int, page: int = 500, accumulated: bool = False
    ) -> Iterator[TrainingPair]:
        """The pairs an iteration trains on, with their texts, in the order of their ids.

        With `accumulated`, after those of the iterations before it in the run's history, oldest first.
        """
        for each in self._up_to(iteration_id) if accumulated else [iteration_id]:
            after = 0
            while rows := self._training_page(each, after, page):
                yield from rows
                after = rows[-1].pair_id

    def exclude(self, iteration_id: int, pair_ids: Sequence[int]) -> None:
        """Mark pairs of an iteration as too long for the trainer; their rows stay.

        Prompts of which no pair is left come to the outcome `pair_too_long`.
        """
        mine = (PreferencePair.iteration_id == iteration_id) & PreferencePair.id.in_(pair_ids)
        prompts = select(PreferencePair.prompt_id).where(mine)
        left = exists().where(
            PreferencePair.iteration_id == iteration_id,
            PreferencePair.prompt_id == PairDecision.prompt_id,
            PreferencePair.excluded.is_(None),
        )
        with self._database.write() as connection:
            connection.execute(update(PreferencePair).where(mine).values(excluded="too_long"))
            connection.execute(
                update(PairDecision)
                .where(PairDecision.iteration_id == iteration_id, PairDecision.prompt_id.in_(prompts), ~left)
                .values(outcome=PairOutcome.PAIR_TOO_LONG)
            )

    def _up_to(self, iteration_id: int) -> list[int]:
        """The iterations of the run's history up to this one, oldest first."""
        query = select(Iteration.run_id, Iteration.t).where(Iteration.id == iteration_id)
        with self._database.read() as connection:
            run_id, last = connection.execute(query).one()
            return [used.id for used in history(connection, run_id) if used.t <= last]

    def _training_page(self, iteration_id: int, after: int, limit: int) -> list[TrainingPair]:
        chosen, rejected = (Candidate.__table__.alias(name) for name in ("chosen", "rejected"))
        query = (
            select(
                PreferencePair.id.label("pair_id"),
                Prompt.text.label("prompt"),
                chosen.c.text.label("chosen"),
                rejected.c.text.label("rejected"),
                PreferencePair.soft_label,
                PreferencePair.chosen_score,
                PreferencePair.rejected_score,
                Prompt.reference,
            )
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
            return [TrainingPair(**row._asdict()) for row in connection.execute(query)]


def _scored_candidates(
    connection: Connection, judge_id: int, of_these: ColumnElement[bool]
) -> dict[int, list[ScoredCandidate]]:
    """Candidates of each prompt in the order of their index, with this judge's readable scores."""
    scores: dict[int, list[float]] = defaultdict(list)
    rewards: dict[int, float | None] = {}
    judged = (
        select(Judgement.candidate_id, Judgement.score, Judgement.reward)
        .join(Candidate, Candidate.id == Judgement.candidate_id)
        .where(of_these, Judgement.judge_id == judge_id, Judgement.score.is_not(None))
        .order_by(Judgement.candidate_id, Judgement.sample)
    )
    for candidate_id, score, reward in connection.execute(judged).all():  # at once: thousands of rows a page
        scores[candidate_id].append(float(score or 0))
        rewards[candidate_id] = reward
    query = (
        select(
            Candidate.id,
            Candidate.prompt_id,
            Candidate.text,
            Candidate.status,
            Candidate.token_count,
            Candidate.checkpoint_id,
        )
        .where(of_these)
        .order_by(Candidate.prompt_id, Candidate.candidate_index)
    )
    found: dict[int, list[ScoredCandidate]] = defaultdict(list)
    for key, prompt_id, text, status, token_count, checkpoint_id in connection.execute(query).all():
        candidate = ScoredCandidate(
            id=key,
            text=text,
            scores=tuple(scores[key]),
            status=CandidateStatus(status),
            reward=rewards.get(key),
            token_count=token_count,
            anchor=checkpoint_id is not None,
        )
        found[prompt_id].append(candidate)
    return found


def _preferences(
    connection: Connection, judge_id: int, of_these: ColumnElement[bool]
) -> dict[int, dict[tuple[int, int], float]]:
    """Prompt → what this judge said of each two of its candidates, averaged over both orders.

    One order alone would bring in the judge's liking for a place: then they have none, as they have no score.
    """
    query = (
        select(
            Candidate.prompt_id,
            CandidateComparison.first_id,
            CandidateComparison.second_id,
            CandidateComparison.probability_first,
        )
        .join(Candidate, Candidate.id == CandidateComparison.first_id)
        .where(
            of_these,
            CandidateComparison.judge_id == judge_id,
            CandidateComparison.probability_first.is_not(None),
        )
    )
    said: dict[int, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in connection.execute(query).all():
        first, second, probability = row.first_id, row.second_id, float(row.probability_first or 0)
        low_first = first < second
        couple = (first, second) if low_first else (second, first)
        said[row.prompt_id][couple].append(probability if low_first else 1 - probability)
    return {
        prompt_id: {couple: sum(each) / 2 for couple, each in couples.items() if len(each) == 2}
        for prompt_id, couples in said.items()
    }
