"""Imported preferences: stored as prompts with candidates, taken into an iteration as preference pairs."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, text, update
from sqlalchemy.orm import aliased

from selfreward.crash import crash_point
from selfreward.mixing import REPLACED, UNBALANCED, Mix, Offer
from selfreward.store.database import Database
from selfreward.store.lineage import counted_iterations, lineage
from selfreward.store.rows import AnyRow, insert_new, insert_returning, now
from selfreward.store.schema import (
    Candidate,
    ImportedPreference,
    Iteration,
    PairDecision,
    PreferencePair,
    Prompt,
    Run,
)
from selfreward.text import fingerprint, restore
from selfreward.types import (
    CandidateStatus,
    IterationRow,
    PairOutcome,
    Preference,
    PromptSource,
    PromptStatus,
    Split,
)

OWN = "ai"
IMPORTED = "imported"
PAGE = 500
# Said literally: SQLite looks into a partial index only where it can see that its condition holds.
_IS_IMPORTED = text("prompt.source = 'imported'")

Item = TypeVar("Item")
Texts = Mapping[tuple[int, str], int]
"""(prompt, fingerprint of an answer) → candidate."""


class Imported:
    """Queries about imported preferences. A fork has those of the runs it comes from."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run_id: int, origin: str, preferences: Sequence[Preference]) -> int:
        """Store preferences with their prompts and answers, in one transaction; returns how many are new.

        Texts that are there already, in this run or one that it comes from, are not stored again.
        """
        with self._database.write() as connection:
            runs = [link.run_id for link in lineage(connection, run_id)]
            prompts = _prompts(connection, run_id, runs, origin, preferences)
            answers = _answers(connection, prompts, preferences)
            rows = [_row(run_id, origin, each, prompts, answers) for each in preferences]
            known = _known(connection, runs, sorted(prompts.values()))
            new = [row for row in rows if _triple(row) not in known]
            return len(insert_returning(connection, ImportedPreference, new, ImportedPreference.id))

    def origins(self, run_id: int) -> dict[str, int]:
        """How many preferences a run can train on, by the file they came from."""
        query = select(ImportedPreference.origin, func.count()).join(
            Prompt, Prompt.id == ImportedPreference.prompt_id
        )
        with self._database.read() as connection:
            mine = query.where(_offered(connection, run_id)).group_by(ImportedPreference.origin)
            return {origin: count for origin, count in connection.execute(mine.order_by(text("1")))}

    def offers(self, iteration: IterationRow) -> list[Offer]:
        """What an iteration can take, with how often its run's history has trained on it."""
        columns = (*_TRIPLE, ImportedPreference.id, ImportedPreference.origin)
        query = select(*columns).join(Prompt, Prompt.id == ImportedPreference.prompt_id)
        with self._database.read() as connection:
            rows = connection.execute(query.where(_offered(connection, iteration.run_id))).all()
            uses, mine = _uses(connection, iteration)
        return [
            Offer(id=row.id, origin=row.origin, uses=uses[_triple(row)], taken=_triple(row) in mine)
            for row in rows
        ]

    def own_pairs(self, iteration_id: int) -> list[int]:
        """Ids of the pairs that a judge's scores made, those too that mixing has left out."""
        mine = _own(iteration_id) & or_(
            PreferencePair.excluded.is_(None), PreferencePair.excluded.in_((REPLACED, UNBALANCED))
        )
        with self._database.read() as connection:
            return list(connection.scalars(select(PreferencePair.id).where(mine).order_by(PreferencePair.id)))

    def apply(self, iteration_id: int, mixed: Mix) -> None:
        """Make preference pairs of what was taken, and mark what is left out. Repeats change nothing."""
        for page in _pages(mixed.taken):
            with self._database.write() as connection:
                found = select(ImportedPreference).where(ImportedPreference.id.in_(page))
                pairs = [_pair(iteration_id, row) for row in connection.execute(found)]
                insert_new(connection, PreferencePair, pairs)
            crash_point("mix:stored")
        with self._database.write() as connection:
            _mark(connection, iteration_id, mixed)


def _prompts(
    connection: Connection, run_id: int, runs: Sequence[int], origin: str, preferences: Sequence[Preference]
) -> dict[str, int]:
    """Fingerprint of each prompt → its row, made where no run of the lineage has it."""
    texts = {fingerprint(each.prompt): each.prompt for each in preferences}
    query = select(Prompt.text_hash, Prompt.id).where(
        Prompt.run_id.in_(runs), Prompt.text_hash.in_(texts), _IS_IMPORTED
    )

    def stored() -> dict[str, int]:
        rows = connection.execute(query.order_by(Prompt.id.desc()))
        return {key: prompt_id for key, prompt_id in rows}  # of several the first

    known = stored()
    references = {fingerprint(each.prompt): each.reference for each in preferences if each.reference}
    missing = [
        _prompt_row(run_id, origin, texts[key], references.get(key)) for key in texts if key not in known
    ]
    insert_new(connection, Prompt, missing)
    return stored() if missing else known


def _answers(
    connection: Connection, prompts: Mapping[str, int], preferences: Sequence[Preference]
) -> dict[tuple[int, str], int]:
    """(prompt, fingerprint) of each answer → its row, made where it is not there."""
    known, counts = _stored_answers(connection, sorted(prompts.values()))
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for each in preferences:
        prompt_id = prompts[fingerprint(each.prompt)]
        for answer in (each.chosen, each.rejected):
            key = (prompt_id, fingerprint(answer))
            if key not in known and key not in rows:
                rows[key] = _candidate_row(prompt_id, counts[prompt_id], answer)
                counts[prompt_id] += 1
    insert_new(connection, Candidate, list(rows.values()))
    return _stored_answers(connection, sorted(prompts.values()))[0] if rows else known


def _stored_answers(
    connection: Connection, prompt_ids: Sequence[int]
) -> tuple[dict[tuple[int, str], int], Counter[int]]:
    """The answers that prompts have, and how many each has."""
    query = select(Candidate.id, Candidate.prompt_id, Candidate.text)
    found: dict[tuple[int, str], int] = {}
    counts: Counter[int] = Counter()
    for key, prompt_id, answer in connection.execute(query.where(Candidate.prompt_id.in_(prompt_ids))):
        found[prompt_id, fingerprint(restore(answer))] = key
        counts[prompt_id] += 1
    return found, counts


_TRIPLE = (ImportedPreference.prompt_id, ImportedPreference.chosen_id, ImportedPreference.rejected_id)
_PAIR_TRIPLE = (PreferencePair.prompt_id, PreferencePair.chosen_id, PreferencePair.rejected_id)


def _triple(row: Any) -> tuple[int, int, int]:
    """By which a preference is known: what is better than what, as an answer to which prompt."""
    values = row if isinstance(row, Mapping) else row._mapping
    return values["prompt_id"], values["chosen_id"], values["rejected_id"]


def _known(
    connection: Connection, runs: Sequence[int], prompt_ids: Sequence[int]
) -> set[tuple[int, int, int]]:
    mine = ImportedPreference.run_id.in_(runs) & ImportedPreference.prompt_id.in_(prompt_ids)
    return {_triple(row) for row in connection.execute(select(*_TRIPLE).where(mine))}


def _offered(connection: Connection, run_id: int) -> ColumnElement[bool]:
    """What the run can train on: its own and its ancestors', unless the prompt is a seed to measure by."""
    runs = [link.run_id for link in lineage(connection, run_id)]
    seed = aliased(Prompt, name="seed")
    shared = select(func.coalesce(Run.seeds_run_id, Run.id)).where(Run.id == run_id).scalar_subquery()
    measuring = exists().where(
        seed.run_id == shared,
        seed.text_hash == Prompt.text_hash,
        text("seed.source = 'seed'"),
        seed.split == Split.HELD_OUT,
    )
    return and_(ImportedPreference.run_id.in_(runs), ~measuring)


def _uses(
    connection: Connection, iteration: IterationRow
) -> tuple[Counter[tuple[int, int, int]], set[tuple[int, int, int]]]:
    """How often the other iterations of the history trained on what, and what this one has taken."""
    mine = counted_iterations(lineage(connection, iteration.run_id))
    query = (
        select(PreferencePair.iteration_id, *_PAIR_TRIPLE)
        .join(Iteration, Iteration.id == PreferencePair.iteration_id)
        .where(mine, PreferencePair.origin != OWN)
    )
    by_iteration: dict[bool, list[tuple[int, int, int]]] = defaultdict(list)
    for row in connection.execute(query):
        by_iteration[row.iteration_id == iteration.id].append(_triple(row))
    return Counter(by_iteration[False]), set(by_iteration[True])


def _own(iteration_id: int) -> ColumnElement[bool]:
    return (PreferencePair.iteration_id == iteration_id) & (PreferencePair.origin == OWN)


def _mark(connection: Connection, iteration_id: int, mixed: Mix) -> None:
    """Exclusions as the mix has them, and the outcome of prompts of which no pair is left."""
    marked = _own(iteration_id) & PreferencePair.excluded.in_((REPLACED, UNBALANCED))
    connection.execute(update(PreferencePair).where(marked).values(excluded=None))
    for page in _pages(mixed.surplus):
        mine = PreferencePair.id.in_(page)
        connection.execute(update(PreferencePair).where(mine).values(excluded=mixed.reason))
    of_prompt = _own(iteration_id) & (PreferencePair.prompt_id == PairDecision.prompt_id)
    trained = exists().where(of_prompt, PreferencePair.excluded.is_(None))
    left_out = exists().where(of_prompt, PreferencePair.excluded.in_((REPLACED, UNBALANCED)))
    for old, new, holds in (
        (PairOutcome.SURPLUS, PairOutcome.PAIRED, trained),
        (PairOutcome.PAIRED, PairOutcome.SURPLUS, ~trained & left_out),
    ):
        decided = (PairDecision.iteration_id == iteration_id) & (PairDecision.outcome == old)
        connection.execute(update(PairDecision).where(decided, holds).values(outcome=new))


def _pages(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + PAGE] for start in range(0, len(items), PAGE))


def _prompt_row(run_id: int, origin: str, instruction: str, reference: str | None) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "source": PromptSource.IMPORTED,
        "origin": origin,
        "text": instruction,
        "text_hash": fingerprint(instruction),
        "reference": reference,
        "status": PromptStatus.ACCEPTED,
        "created_at": now(),
    }


def _candidate_row(prompt_id: int, index: int, answer: str) -> dict[str, Any]:
    return {
        "prompt_id": prompt_id,
        "candidate_index": index,
        "text": answer,
        "status": CandidateStatus.OK,
        "finish_reason": IMPORTED,
        "token_count": 0,
        "created_at": now(),
    }


def _row(
    run_id: int, origin: str, each: Preference, prompts: Mapping[str, int], answers: Texts
) -> dict[str, Any]:
    prompt_id = prompts[fingerprint(each.prompt)]
    return {
        "run_id": run_id,
        "prompt_id": prompt_id,
        "chosen_id": answers[prompt_id, fingerprint(each.chosen)],
        "rejected_id": answers[prompt_id, fingerprint(each.rejected)],
        "origin": origin,
        "chosen_score": each.chosen_score,
        "rejected_score": each.rejected_score,
        "soft_label": each.soft_label,
        "created_at": now(),
    }


def _pair(iteration_id: int, row: AnyRow) -> dict[str, Any]:
    """A preference pair of an imported one. Scores that contradict it stay behind: they made no pair."""
    better, worse = row.chosen_score, row.rejected_score
    fits = better is not None and worse is not None and better > worse
    return {
        "iteration_id": iteration_id,
        "prompt_id": row.prompt_id,
        "chosen_id": row.chosen_id,
        "rejected_id": row.rejected_id,
        "origin": row.origin,
        "chosen_score": better if fits else None,
        "rejected_score": worse if fits else None,
        "margin": better - worse if fits else None,
        "soft_label": row.soft_label,
        "created_at": now(),
    }
