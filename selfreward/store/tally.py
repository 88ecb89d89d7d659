"""What the rows of an iteration must add up to, by the stages that say they are done."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, literal, or_, select
from sqlalchemy.orm import aliased

from selfreward.store.candidates import JUDGEABLE
from selfreward.store.pairs import OWN
from selfreward.store.rows import AnySelect
from selfreward.store.schema import (
    Candidate,
    ImportedPreference,
    Judge,
    Judgement,
    PairDecision,
    PreferencePair,
    Prompt,
)
from selfreward.types import PairOutcome, PromptSource, PromptStatus, StageName, Status

WITH_PAIR = (PairOutcome.PAIRED, PairOutcome.PAIR_TOO_LONG, PairOutcome.SURPLUS)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """An iteration, its stages, and what it was told to make."""

    id: int
    run: str
    run_id: int
    t: int
    fork: int | None
    """The iteration that its run begins with, if that is a fork."""
    version: int
    """Of the checkpoint that works in it."""
    status: str
    data_iteration_id: int | None
    judge_id: int | None
    stages: Mapping[str, tuple[str, int]]
    """Name → status and cursor."""
    settings: tuple[Mapping[str, Any], ...]
    """All the settings that it, or the iteration whose data it uses, was worked on with."""

    @property
    def name(self) -> str:
        """For people."""
        return f"iteration {self.t} of run {self.run!r}"

    def each(self, section: str, key: str) -> list[Any]:
        """The values of a setting that were in force."""
        found = [body.get(section, {}).get(key) for body in self.settings]
        return [value for value in found if value is not None]


def iteration_counts(connection: Connection, facts: Facts) -> Iterator[str]:
    """What is missing in an iteration t ≥ 1, in words."""
    yield from _prompts(connection, facts)
    yield from _lacking(connection, facts, StageName.SAMPLE, "prompts lack candidates", _unanswered)
    yield from _lacking(connection, facts, StageName.JUDGE, "candidates lack judgements", _unjudged)
    yield from _lacking(connection, facts, StageName.PAIR, "prompts have no decision", _undecided)
    yield from _decisions(connection, facts)


def candidates(connection: Connection) -> tuple[int, list[str]]:
    """How many candidates there are, and which do not belong where they are."""
    total = connection.execute(select(func.count()).select_from(Candidate)).scalar_one()
    elsewhere = Candidate.iteration_id.is_distinct_from(Prompt.iteration_id)
    nowhere = Prompt.iteration_id.is_(None) & (Prompt.source != PromptSource.IMPORTED)
    query = (
        select(func.count(), func.min(Candidate.id))
        .join(Prompt, Prompt.id == Candidate.prompt_id)
        .where(or_(elsewhere, nowhere, Prompt.status != PromptStatus.ACCEPTED))
    )
    return total, list(_told(connection, query, "candidates answer a prompt that is not of their iteration"))


def pairs(connection: Connection) -> tuple[int, list[str]]:
    """How many preference pairs there are, and what is wrong with them."""
    total = connection.execute(select(func.count()).select_from(PreferencePair)).scalar_one()
    problems: list[str] = []
    for side in (PreferencePair.chosen_id, PreferencePair.rejected_id):
        query = (
            select(func.count(), func.min(PreferencePair.id))
            .join(Candidate, Candidate.id == side)
            .where(Candidate.prompt_id != PreferencePair.prompt_id)
        )
        said = f"pairs have a {side.key.removesuffix('_id')} candidate of another prompt"
        problems += _told(connection, query, said)
    own = PreferencePair.origin == OWN
    mine = and_(
        PairDecision.iteration_id == PreferencePair.iteration_id,
        PairDecision.prompt_id == PreferencePair.prompt_id,
        PairDecision.outcome.in_(WITH_PAIR),
    )
    theirs = and_(
        ImportedPreference.prompt_id == PreferencePair.prompt_id,
        ImportedPreference.chosen_id == PreferencePair.chosen_id,
        ImportedPreference.rejected_id == PreferencePair.rejected_id,
    )
    counted = select(func.count(), func.min(PreferencePair.id))
    for query, said in (
        (counted.where(own, ~exists().where(mine)), "pairs have no decision that says so"),
        (counted.where(~own, ~exists().where(theirs)), "imported pairs are of no imported preference"),
    ):
        problems += _told(connection, query, said)
    return total, problems


def _prompts(connection: Connection, facts: Facts) -> Iterator[str]:
    """Enough prompts are accepted, or the tries ran out. What a fork has copied, others had asked for."""
    targets, caps = facts.each("self_instruct", "target"), facts.each("self_instruct", "max_attempts")
    own = facts.data_iteration_id == facts.id and facts.t != facts.fork
    if (
        not own
        or not targets
        or not caps
        or facts.stages.get(StageName.SELF_INSTRUCT, ("", 0))[0] != Status.DONE
    ):
        return
    accepted = func.count().filter(Prompt.status == PromptStatus.ACCEPTED)
    query = select(accepted, func.count()).where(Prompt.iteration_id == facts.id)
    have, written = connection.execute(query).one()
    if have > max(targets) or (have < min(targets) and written < min(caps)):
        yield f"{facts.name}: {have:,} of {written:,} prompts are accepted, and {max(targets):,} were wanted"


def _lacking(connection: Connection, facts: Facts, stage: StageName, said: str, query: Any) -> Iterator[str]:
    """Items that a stage has left out: of all when it is done, of those below its cursor when it is not."""
    status, cursor = facts.stages.get(stage, (Status.PENDING, 0))
    last = None if status == Status.DONE else cursor
    asked = None if last == 0 else query(facts, last)
    if asked is not None:
        state = "done" if last is None else f"past item {last}"
        found = _told(connection, asked, said)
        yield from (f"{facts.name}: {problem}, and {stage} is {state}" for problem in found)


def _unanswered(facts: Facts, last: int | None) -> AnySelect | None:
    wanted = facts.each("sample", "candidates")
    own = (Candidate.prompt_id == Prompt.id) & Candidate.checkpoint_id.is_(None)
    have = select(func.count()).where(own).scalar_subquery()
    return _of_prompts(facts, last).where(have < min(wanted)) if wanted else None


def _unjudged(facts: Facts, last: int | None) -> AnySelect | None:
    wanted = [_samples(body["judge"]) for body in facts.settings if "judge" in body]
    if not wanted or facts.judge_id is None:
        return None
    mine = (Judgement.candidate_id == Candidate.id) & (Judgement.judge_id == facts.judge_id)
    have = select(func.count()).where(mine).scalar_subquery()
    of_data = (Candidate.iteration_id == facts.data_iteration_id) & Candidate.checkpoint_id.is_(None)
    query = select(func.count(), func.min(Candidate.id)).where(of_data, Candidate.status.in_(JUDGEABLE))
    return _up_to(query, Candidate.id, last).where(have < min(wanted), _can_be_judged(facts))


def _can_be_judged(facts: Facts) -> ColumnElement[bool]:
    """A judge that compares has nothing to say of the only response to a prompt."""
    other = aliased(Candidate, name="other")
    compares = exists().where(Judge.id == facts.judge_id, Judge.type == "pairwise")
    has_opponent = exists().where(
        other.prompt_id == Candidate.prompt_id,
        other.id != Candidate.id,
        other.checkpoint_id.is_(None),
        other.status.in_(JUDGEABLE),
    )
    return or_(~compares, has_opponent)


def _undecided(facts: Facts, last: int | None) -> AnySelect:
    mine = (PairDecision.iteration_id == facts.id) & (PairDecision.prompt_id == Prompt.id)
    return _of_prompts(facts, last).where(~exists().where(mine))


def _decisions(connection: Connection, facts: Facts) -> Iterator[str]:
    """Decisions are about prompts of the iteration, and those that name a pair have one."""
    mine = select(func.count(), func.min(PairDecision.prompt_id)).where(PairDecision.iteration_id == facts.id)
    strange = or_(
        Prompt.iteration_id.is_distinct_from(facts.data_iteration_id), Prompt.status != PromptStatus.ACCEPTED
    )
    astray = mine.join(Prompt, Prompt.id == PairDecision.prompt_id).where(strange)
    pair = and_(PreferencePair.iteration_id == facts.id, PreferencePair.prompt_id == PairDecision.prompt_id)
    bare = mine.where(PairDecision.outcome.in_(WITH_PAIR), ~exists().where(pair))
    for query, said in (
        (astray, "decisions are about a prompt that is not of it"),
        (bare, "decisions name a pair that is not there"),
    ):
        yield from (f"{facts.name}: {problem}" for problem in _told(connection, query, said))


def _of_prompts(facts: Facts, last: int | None) -> AnySelect:
    accepted = and_(Prompt.iteration_id == facts.data_iteration_id, Prompt.status == PromptStatus.ACCEPTED)
    return _up_to(select(func.count(), func.min(Prompt.id)).where(accepted), Prompt.id, last)


def _up_to(query: AnySelect, column: Any, last: int | None) -> AnySelect:
    return query if last is None else query.where(column <= literal(last))


def _samples(judge: Mapping[str, Any]) -> int:
    """As `JudgeSettings.wanted`."""
    once = judge.get("score") == "direct" or judge.get("type", "rubric") != "rubric"
    return 1 if once else int(judge.get("samples", 1))


def _told(connection: Connection, query: AnySelect, said: str) -> Iterator[str]:
    """The problem with a count and where to look, when there is one."""
    count, first = connection.execute(query).one()
    if count:
        yield f"{count:,} {said}, the first is {first}"
