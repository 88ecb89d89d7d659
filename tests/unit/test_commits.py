"""A commit that broke off, or whose answer was lost, is made again: nothing is stored or counted twice."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from selfreward.errors import StoreUnavailable
from selfreward.stages.held_out import AnswerPrompts
from selfreward.stages.self_instruct import Draw, Reply, SelfInstruct
from selfreward.stages.workplace import Workplace
from selfreward.store.schema import Answer, Prompt, PromptDemonstration
from selfreward.types import (
    CandidateStatus,
    Completion,
    NewCandidate,
    PromptRow,
    Seed,
    StageName,
)
from tests.conftest import Filled

TEXTS = (
    "Explain in a few words how a lighthouse lamp turns through the night.",
    "Write a short letter to a neighbour about the broken garden fence.",
    "Name five dishes that can be cooked with lentils and one onion.",
    "Describe how you would teach a child to tie its shoes.",
    "Compare travelling by train with travelling by bicycle over mountains.",
)


def place_of(filled: Filled) -> Workplace:
    unused: Any = None
    return Workplace(
        directory=Path(),
        store=filled.store,
        settings=filled.settings,
        run=filled.run,
        iteration=filled.iteration,
        checkpoint=filled.checkpoint,
        fence=1,
        reporter=unused,
        stop=asyncio.Event(),
    )


def written(filled: Filled) -> SelfInstruct:
    filled.store.prompts.add_seeds(filled.run.id, [Seed(instruction="Say what a seed is.", origin="test")])
    engine: Any = None
    return SelfInstruct(place_of(filled), filled.stage(StageName.SELF_INSTRUCT), engine)


def replies(filled: Filled) -> list[Reply]:
    [seed] = filled.store.prompts.seeds(filled.run.id)
    return [
        Reply(
            draw=Draw(id=number, demonstrations=(PromptRow(id=seed.id, text=seed.text),)),
            index=0,
            completion=Completion(text=text, finish_reason="stop", token_count=12, mean_logprob=-0.5),
        )
        for number, text in enumerate(TEXTS, start=1)
    ]


def breaking(call: Callable[..., int], at: int, *, after: bool) -> Callable[..., int]:
    """The database goes away at the `at`-th call, before it or when it has done its work."""
    calls = 0

    def instead(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == at and not after:
            raise StoreUnavailable("gone before")
        key = call(*arguments)
        if calls == at:
            raise StoreUnavailable("gone before it could answer")
        return key

    return instead


@pytest.mark.parametrize("after", [False, True], ids=["broken off", "answer lost"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_prompts_are_decided_once(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    work = written(filled)
    given = replies(filled)
    prompts = filled.store.prompts
    monkeypatch.setattr(prompts, "add_written", breaking(prompts.add_written, at, after=after))
    with pytest.raises(StoreUnavailable):
        work.commit(given, 0)
    work.commit(given, 0)
    assert [row.text for row in prompts.written(filled.run.id)] == list(TEXTS)
    assert work.done() == 5 and prompts.tally(filled.iteration.id) == (5, 5, 5)
    with filled.store.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(PromptDemonstration)).scalar_one() == 5


def test_held_out_answers_are_stored_once(filled: Filled) -> None:
    prompt = filled.prompt("A held-out question.")
    engine: Any = None
    work = AnswerPrompts(
        place_of(filled), filled.stage(StageName.ANSWER_HELD_OUT), engine, session_id(filled), [prompt]
    )
    answer = NewCandidate(
        prompt_id=prompt,
        index=0,
        text="An answer.",
        status=CandidateStatus.OK,
        finish_reason="stop",
        token_count=2,
        mean_logprob=None,
    )
    for _ in range(2):
        work.commit([answer], prompt)
    with filled.store.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(Answer)).scalar_one() == 1
        assert connection.execute(select(func.count()).select_from(Prompt)).scalar_one() == 1


def session_id(filled: Filled) -> int:
    return filled.store.runs.begin_session(filled.iteration.id, filled.checkpoint.id, "fake", 1)
