"""A reward model's process and what is asked of it: batches, failures, refusals, and that nothing is left."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from selfreward.children import Child
from selfreward.config import Settings
from selfreward.engines.base import EngineDied, RequestFailed
from selfreward.errors import BadInput, EngineError
from selfreward.reporting import LogReporter
from selfreward.stages import reward_scorer
from selfreward.stages.reward_judge import RewardJudge, judge_id, score_of
from selfreward.stages.reward_models import NamedRewardModel, look_up
from selfreward.stages.reward_scorer import RewardScorer, Scored
from selfreward.stages.workplace import Drained, Workplace
from selfreward.store.schema import Run
from selfreward.training.reward_server import fake_reward
from selfreward.training.reward_source import head_problem, parse_reward_source
from selfreward.types import CheckpointKind, CheckpointRow, StageName
from tests.conftest import Filled

MODEL = NamedRewardModel(name="R_1", source="there", digest="d", checkpoint=None)


def classifier(directory: Path, **config: Any) -> Path:
    """A directory that looks like a reward model."""
    directory.mkdir(parents=True)
    told = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "r"}} | config
    (directory / "config.json").write_text(json.dumps(told))
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """Where a reward model of somebody else's judges; without a database."""
    model = classifier(tmp_path / "rm")
    settings = Settings.model_validate(
        {
            "engine": {"type": "fake"},
            "judge": {"type": "reward_model", "reward_model": str(model), "reward_batch_size": 3},
        }
    )
    nothing: Any = None
    return Workplace(
        directory=tmp_path,
        store=nothing,
        settings=settings,
        run=nothing,
        iteration=nothing,
        checkpoint=cast("CheckpointRow", SimpleNamespace(path="models/M_1")),
        fence=1,
        reporter=LogReporter({}),
        stop=asyncio.Event(),
    )


@pytest.fixture
def stored(place: Workplace, filled: Filled) -> Workplace:
    """The same with one, of each kind."""
    rows = {"run": filled.run, "iteration": filled.iteration, "checkpoint": filled.checkpoint}
    return replace(place, store=filled.store, **rows)


# ---- the process


def with_scorer(place: Workplace, use: Callable[[RewardScorer], Awaitable[Any]]) -> Any:
    async def session() -> Any:
        async with reward_scorer.reward_scorer(place) as scorer:
            return await use(scorer)

    return asyncio.run(session())


def servers(place: Workplace) -> list[psutil.Process]:
    mine = str(place.directory / "logs" / reward_scorer.READY)
    return [each for each in psutil.process_iter(["cmdline"]) if mine in (each.info["cmdline"] or ())]


def test_the_process_scores_and_is_gone_when_the_block_is_left(place: Workplace) -> None:
    asked = [("Name a colour.", f"Blue {number}") for number in range(8)]

    async def use(scorer: RewardScorer) -> list[Scored]:
        assert servers(place)
        return await asyncio.gather(*(scorer.score(*one) for one in asked))

    told = with_scorer(place, use)
    assert [one.reward for one in told] == [pytest.approx(fake_reward(*one)) for one in asked]
    assert servers(place) == []


def test_a_process_that_is_killed_is_told_as_a_dead_engine(place: Workplace) -> None:
    async def use(scorer: RewardScorer) -> None:
        [server] = [one for one in servers(place) if "selfreward.guard" not in one.cmdline()]
        os.kill(server.pid, signal.SIGKILL)
        server.wait(10)
        await scorer.score("Name a colour.", "Blue")

    with pytest.raises(EngineDied, match="process of the reward model"):
        with_scorer(place, use)
    assert servers(place) == []


def test_nobody_else_has_a_model_scored(place: Workplace) -> None:
    async def use(scorer: RewardScorer) -> int:
        async with httpx.AsyncClient(base_url=scorer._http.base_url) as stranger:
            return (await stranger.post("/score", content='{"pairs": []}')).status_code

    assert with_scorer(place, use) == 403


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"error": "it has 2 labels", "hint": "one", "kind": "bad_model"}, BadInput),
        ({"error": "CUDA out of memory", "hint": "", "kind": "out_of_memory"}, EngineError),
    ],
)
def test_what_cannot_be_loaded_is_told_in_its_words(
    place: Workplace, tmp_path: Path, told: dict[str, str], error: type[Exception]
) -> None:
    ready = tmp_path / "ready.json"
    ready.write_text(json.dumps(told))
    child = cast("Child", SimpleNamespace(running=False))
    with pytest.raises(error, match=told["error"]):
        asyncio.run(reward_scorer._until_ready(place, child, ready))


def test_a_process_that_ends_or_a_stop_ends_the_wait(place: Workplace, tmp_path: Path) -> None:
    ended = SimpleNamespace(running=False, log=tmp_path / "log", log_tail=lambda: "no module named torch")
    with pytest.raises(EngineError, match="no module named torch"):
        asyncio.run(reward_scorer._until_ready(place, cast("Child", ended), tmp_path / "never"))
    place.stop.set()
    with pytest.raises(Drained):
        asyncio.run(reward_scorer._until_ready(place, cast("Child", ended), tmp_path / "never"))


# ---- batches


class Asked:
    """A server that remembers what it was asked at once; poison makes a whole batch fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        responses = [pair["response"] for pair in json.loads(request.content)["pairs"]]
        self.batches.append(responses)
        if "poison" in responses:
            return httpx.Response(500, json={"error": "it burns"})
        scored = [{"reward": float(len(text)), "tokens": 1, "fits": True} for text in responses]
        return httpx.Response(200, json={"scored": scored})


def ask(server: Asked, responses: Sequence[str], batch_size: int) -> list[Any]:
    async def session() -> list[Any]:
        transport = httpx.MockTransport(server.answer)
        async with httpx.AsyncClient(base_url="http://there", transport=transport) as http:
            scorer = RewardScorer(http, cast("Child", None), MODEL, batch_size)
            scores = (scorer.score("p", response) for response in responses)
            found = await asyncio.gather(*scores, return_exceptions=True)
            assert not scorer._waiting
            return found

    return asyncio.run(session())


@given(st.lists(st.text(max_size=9), max_size=20), st.integers(1, 7))
def test_each_gets_its_own_reward_in_batches_that_are_full(responses: list[str], size: int) -> None:
    server = Asked()
    found = ask(server, responses, size)
    assert [one.reward for one in found] == [float(len(text)) for text in responses]
    assert [len(batch) for batch in server.batches][:-1] == [size] * (len(server.batches) - 1)
    assert [text for batch in server.batches for text in batch] == responses


def test_what_spoils_a_batch_fails_alone() -> None:
    server = Asked()
    first, poison, last = ask(server, ["a", "poison", "abc"], 3)
    assert (first.reward, last.reward) == (1.0, 3.0)
    assert isinstance(poison, RequestFailed) and "it burns" in poison.message


def test_who_gives_up_waiting_holds_up_nobody() -> None:
    server = Asked()

    async def session() -> Scored:
        transport = httpx.MockTransport(server.answer)
        async with httpx.AsyncClient(base_url="http://there", transport=transport) as http:
            scorer = RewardScorer(http, cast("Child", None), MODEL, 1)
            async with scorer._turn:
                gone = asyncio.create_task(scorer.score("p", "gone"))
                stays = asyncio.create_task(scorer.score("p", "stays"))
                await asyncio.sleep(0)
                gone.cancel()
                await asyncio.wait([gone])
            return await stays

    assert asyncio.run(session()).reward == 5.0
    assert server.batches == [["stays"]]


# ---- judging


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_score_lies_between_0_and_5_and_keeps_the_order(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= score_of(low) <= score_of(high) <= 5


def test_rewards_become_judgements_with_scores(stored: Workplace, filled: Filled) -> None:
    prompt = filled.prompt("Name a colour.")
    filled.candidates(prompt, ["Blue", "Ten", "Long"])
    told = {"Blue": Scored(reward=0.0, tokens=3, fits=True), "Ten": Scored(reward=None, tokens=3, fits=True)}

    async def score(prompt: str, response: str) -> Scored:
        return told.get(response, Scored(reward=None, tokens=9999, fits=False))

    stage = filled.stage(StageName.JUDGE)
    work = RewardJudge(stored, stage, cast("RewardScorer", SimpleNamespace(score=score, model=MODEL)))
    tasks = work.fetch(0, 10)
    rows = [row for task in tasks for row in asyncio.run(work.perform(task))]
    assert [(row.score, row.reward, row.status) for row in rows] == [
        (2.5, 0.0, "read"),
        (None, None, "unreadable"),
        (None, None, "too_long"),
    ]
    assert work.commit(rows, tasks[-1].id) == 3
    assert work.commit(rows, tasks[-1].id) == 3, "a repeat is harmless"
    assert work.done() == 3 and work.fetch(0, 10) == []
    assert work.detail() == "3 rewards by R_1, 33% readable, mean score 2.50"
    assert [row.status for row in work.give_up(tasks[0], "no")] == ["failed"]


def test_a_judge_is_told_apart_by_its_files(stored: Workplace, tmp_path: Path) -> None:
    before = judge_id(stored)
    assert judge_id(stored) == before
    (tmp_path / "rm" / "model.safetensors").write_bytes(b"other weights")
    os.utime(tmp_path / "rm" / "model.safetensors", ns=(1, 1))
    assert judge_id(stored) != before


# ---- names


def test_a_reward_model_of_the_run_is_found_by_its_row(stored: Workplace, filled: Filled) -> None:
    with pytest.raises(BadInput, match="has no reward model R_1") as refused:
        look_up(stored, "R_1")
    assert "num_labels = 1" in refused.value.hint
    kind, parent = CheckpointKind.REWARD, filled.checkpoint.id
    filled.store.runs.add_checkpoint(filled.run.id, 1, kind, "models/R_1", "digest", parent, "R_1")
    found = look_up(stored, " R_1 ")
    assert found.checkpoint is not None and found.digest == "digest"
    assert found.source.endswith("models/R_1")
    with pytest.raises(BadInput, match="R_2") as refused:
        look_up(stored, "R_2")
    assert "There are: R_1." in refused.value.hint
    latest = filled.store.runs.checkpoint(filled.run.id, 1)
    assert latest is not None and latest.name == "M_1", "R_1 is never M_1"


def test_a_fork_may_be_judged_by_what_its_parent_made_where_it_begins(
    stored: Workplace, filled: Filled
) -> None:
    runs, kind = filled.store.runs, CheckpointKind.REWARD
    forked = runs.ensure("fork")
    with filled.store.database.write() as connection:
        of = update(Run).where(Run.id == forked.id)
        connection.execute(of.values(parent_run_id=filled.run.id, parent_iteration=1))
    fork = replace(stored, run=forked)
    theirs = runs.add_checkpoint(filled.run.id, 1, kind, "models/R_1", "theirs", None, "R_1")
    assert look_up(fork, "R_1").checkpoint == theirs
    own = runs.add_checkpoint(forked.id, 1, kind, "forks/fork/models/R_1", "own", None, "R_1")
    assert look_up(fork, "R_1").checkpoint == own
    assert look_up(stored, "R_1").checkpoint == theirs


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"num_labels": 1}, ""),
        ({"id2label": {"0": "LABEL_0"}, "architectures": ["Qwen2ForSequenceClassification"]}, ""),
        ({"architectures": ["BertForSequenceClassification"]}, "has 2 labels"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "has 3 labels"),
        ({"architectures": ["LlamaForCausalLM"], "num_labels": 1}, "is a LlamaForCausalLM"),
    ],
)
def test_the_head_is_read_from_the_config(config: dict[str, Any], problem: str) -> None:
    assert head_problem(config).startswith(problem) and bool(head_problem(config)) == bool(problem)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "is not set"),
        ("nowhere/at/all", "there is no directory"),
        ("pkg:json/model.gguf", "judge.reward_model: "),
        ("two", "has 2 labels"),
        ("odd", "no config.json that can be read"),
    ],
)
def test_what_is_no_reward_model_is_refused_with_what_works(tmp_path: Path, name: str, told: str) -> None:
    classifier(tmp_path / "two", id2label={"0": "bad", "1": "good"})
    (classifier(tmp_path / "odd") / "config.json").write_text("{")
    with pytest.raises(BadInput, match=told) as refused:
        parse_reward_source(name, tmp_path)
    assert "num_labels = 1" in refused.value.hint


def test_a_hub_id_is_taken_at_its_word(tmp_path: Path) -> None:
    source = parse_reward_source("org/reward", tmp_path)
    assert (source.kind, source.path) == ("hub", None)
