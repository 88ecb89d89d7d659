"""One contract, kept by every engine; then how engines fail, acted out by the fake one."""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from selfreward.config import EngineSettings, SamplingSettings
from selfreward.engines import serve
from selfreward.engines.base import (
    ChatMessage,
    Engine,
    EngineDied,
    NotOneToken,
    PromptTooLong,
    RequestFailed,
)
from selfreward.engines.endpoint import connect
from selfreward.engines.server import free_port
from selfreward.errors import EngineError
from selfreward.judging import SCORES, parse_verdict
from selfreward.types import Choice
from tests.tiny_model import make_tiny_model

Result = TypeVar("Result")
Run = Callable[[Coroutine[Any, Any, Result]], Result]

SERVED = {
    "fake": EngineSettings(type="fake", max_model_len=512),
    "vllm": EngineSettings(
        type="vllm",
        dtype="float32",
        max_model_len=512,
        max_num_seqs=16,
        cpu_kv_cache_gib=1,
        memory=0.3,
        start_timeout_s=300,
    ),
}
GREEDY = SamplingSettings(temperature=0, max_tokens=24)
LIVELY = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=24)
DEADLINE_S = 60
STEMS = ("Score: ", "It is clear.\nScore: ", "It is clear.\n\n**Score:** ", "Score:")


@pytest.fixture(scope="module")
def run() -> Iterator[Run[Any]]:
    """Runs coroutines on one loop, which a server that outlives a test needs."""
    with asyncio.Runner() as runner:
        yield lambda work: runner.run(_in_time(work))


async def _in_time(work: Coroutine[Any, Any, Result]) -> Result:
    async with asyncio.timeout(400):
        return await work


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=["fake", pytest.param("vllm", marks=pytest.mark.slow)])
def engine(
    request: pytest.FixtureRequest, run: Run[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """One running server of each type for all the tests of the contract."""
    model = request.getfixturevalue("checkpoint") if request.param == "vllm" else tmp_path_factory.mktemp("m")
    server = serve(model, SERVED[request.param], log_dir=tmp_path_factory.mktemp("logs"), seed=11)
    yield run(server.__aenter__())
    run(server.__aexit__(None, None, None))


def ask(text: str) -> list[ChatMessage]:
    """A conversation of one turn."""
    return [{"role": "user", "content": text}]


def test_a_request_gives_n_completions_with_their_counts(engine: Engine, run: Run[Any]) -> None:
    replies = run(engine.chat(ask("Name three uses of a paper clip."), LIVELY, 4))
    assert len(replies) == 4
    assert len({reply.text for reply in replies}) > 1
    for reply in replies:
        assert 1 <= reply.token_count <= LIVELY.max_tokens
        assert reply.mean_logprob is not None
        assert -20 < reply.mean_logprob < 0
        assert reply.finish_reason in ("stop", "length")


def test_max_tokens_cuts_a_reply_and_says_so(engine: Engine, run: Run[Any]) -> None:
    short = LIVELY.model_copy(update={"max_tokens": 3})
    replies = run(engine.chat(ask("Tell a long story."), short, 8))
    assert all(reply.token_count <= 3 for reply in replies)
    assert "length" in {reply.finish_reason for reply in replies}
    assert all(reply.token_count == 3 for reply in replies if reply.finish_reason == "length")


def test_a_stop_string_ends_the_reply_before_it(engine: Engine, run: Run[Any]) -> None:
    whole = run(engine.chat(ask("Tell a story."), GREEDY, 1))[0].text
    stop = whole[len(whole) // 2]
    cut = run(engine.chat(ask("Tell a story."), GREEDY, 1, stop=[stop]))[0]
    assert stop not in cut.text
    assert whole.startswith(cut.text)
    assert cut.finish_reason == "stop"


def test_a_regex_shapes_the_whole_reply(engine: Engine, run: Run[Any]) -> None:
    pattern = r"[A-Z][a-z ]{3,12}\.\nScore: [0-5]"
    long_enough = LIVELY.model_copy(update={"max_tokens": 64})
    for reply in run(engine.chat(ask("Judge this."), long_enough, 3, regex=pattern)):
        assert re.fullmatch(pattern, reply.text), reply.text


def test_a_raw_prompt_is_continued(engine: Engine, run: Run[Any]) -> None:
    replies = run(engine.complete("Task 1: Name three uses of a paper clip.\nTask 2:", LIVELY, 2))
    assert len(replies) == 2
    assert all(reply.token_count >= 1 and reply.mean_logprob is not None for reply in replies)


@pytest.mark.parametrize("words", [600, 50_000])
def test_a_prompt_beyond_the_context_concerns_only_itself(engine: Engine, run: Run[Any], words: int) -> None:
    async def both() -> list[Any]:
        long, short = ask("word " * words), ask("Hello.")
        requests = (engine.chat(long, LIVELY, 2), engine.chat(short, LIVELY, 2))
        return await asyncio.gather(*requests, return_exceptions=True)

    refused, answered = run(both())
    assert isinstance(refused, PromptTooLong)
    assert len(answered) == 2
    assert len(run(engine.chat(ask("Hello."), LIVELY, 1))) == 1


def test_a_malformed_regex_is_refused_for_this_request_only(engine: Engine, run: Run[Any]) -> None:
    with pytest.raises(RequestFailed, match="HTTP 400"):
        run(engine.chat(ask("Hello."), LIVELY, 1, regex="(("))
    assert engine.alive


def test_odd_characters_do_not_break_anything(engine: Engine, run: Run[Any]) -> None:
    assert run(engine.chat(ask("NUL \0, ünïcødé, 🦊, \x1b[31m, {{ braces }}"), LIVELY, 1))
    try:
        run(engine.chat(ask("a lone surrogate \ud800"), LIVELY, 1))
    except RequestFailed:
        assert engine.alive


def test_statistics_grow_with_the_work(engine: Engine, run: Run[Any]) -> None:
    before = run(engine.statistics())
    replies = run(engine.chat(ask("Count " + "again and " * 60), LIVELY, 3))
    run(engine.chat(ask("Count " + "again and " * 60), LIVELY, 3))
    after = run(engine.statistics())
    generated = sum(reply.token_count for reply in replies)
    assert after.generated_tokens >= before.generated_tokens + generated
    assert after.prompt_tokens > before.prompt_tokens + 60
    assert after.prefix_cache_queries > before.prefix_cache_queries
    assert after.prefix_cache_hits > before.prefix_cache_hits
    assert after.waiting == 0


def test_many_requests_at_once_get_their_own_answers(engine: Engine, run: Run[Any]) -> None:
    async def crowd() -> list[int]:
        requests = [engine.chat(ask(f"Request number {k}."), LIVELY, 1 + k % 3) for k in range(40)]
        return [len(replies) for replies in await asyncio.gather(*requests)]

    assert run(crowd()) == [1 + k % 3 for k in range(40)]


def test_a_cancelled_request_leaves_the_server_in_order(engine: Engine, run: Run[Any]) -> None:
    async def give_up() -> None:
        request = asyncio.ensure_future(engine.chat(ask("Tell a story."), LIVELY, 2))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)

    run(give_up())
    assert len(run(engine.chat(ask("Hello."), LIVELY, 1))) == 1


def test_the_choices_after_a_begun_reply_get_their_probabilities(engine: Engine, run: Run[Any]) -> None:
    question = ask("Judge this: <response>Blue.</response>")
    first, again = (run(engine.choose(question, "It is short.\nScore: ", SCORES)) for _ in range(2))
    assert len(first.probabilities) == len(SCORES)
    assert all(0 < share < 1 for share in first.probabilities)
    assert sum(first.probabilities) + first.lost_mass == pytest.approx(1)
    assert again.probabilities == pytest.approx(first.probabilities, rel=0.02)
    other = run(engine.choose(ask("Judge this: <response>Ten.</response>"), "Score: ", SCORES))
    assert other.probabilities != first.probabilities, "the question counts"


def test_many_choices_beside_other_requests_do_not_disturb_each_other(engine: Engine, run: Run[Any]) -> None:
    async def crowd(one_by_one: bool) -> list[Choice]:
        work = [engine.choose(ask(f"Judge number {k}."), "Score: ", SCORES[: 2 + k % 5]) for k in range(16)]
        if one_by_one:
            return [await choice for choice in work]
        others = [engine.chat(ask(f"Request number {k}."), LIVELY, 2) for k in range(16)]
        results = await asyncio.gather(*work, *others)
        assert all(-20 < reply.mean_logprob < 0 for replies in results[16:] for reply in replies)
        return list(results[:16])

    alone, together = run(crowd(True)), run(crowd(False))
    for one, other in zip(alone, together, strict=True):
        assert other.probabilities == pytest.approx(one.probabilities, rel=0.05)


def test_a_choice_of_several_tokens_is_refused(engine: Engine, run: Run[Any]) -> None:
    with pytest.raises(NotOneToken, match="'10' is 2 tokens"):
        run(engine.choose(ask("Judge this."), "Score: ", ["9", "10"]))


@pytest.mark.parametrize("words", [600, 5_000])
def test_a_choice_beyond_the_context_concerns_only_itself(engine: Engine, run: Run[Any], words: int) -> None:
    with pytest.raises(PromptTooLong):
        run(engine.choose(ask("word " * words), "Score: ", SCORES))
    assert run(engine.choose(ask("word"), "Score: ", SCORES))


def test_the_probabilities_are_those_that_the_model_has(
    engine: Engine, run: Run[Any], checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    """Against transformers in float32, the space at the end of the stem included."""
    if request.node.callspec.params["engine"] == "fake":
        pytest.skip("the fake engine has no model")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    digits, seen = tokenizer.convert_tokens_to_ids(SCORES), []
    opened = tokenizer.apply_chat_template(ask("Judge this."), tokenize=False, add_generation_prompt=True)
    for stem in STEMS:
        choice = run(engine.choose(ask("Judge this."), stem, SCORES))
        tokens = tokenizer(opened + stem, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            shares = model(tokens).logits[0, -1].softmax(-1)[digits].tolist()
        assert choice.probabilities == pytest.approx(shares, rel=2e-3)
        assert all(shares != pytest.approx(others, rel=4e-3) for others in seen), "stems can be told apart"
        seen.append(shares)


def test_the_death_of_the_server_reaches_every_request(engine: Engine, run: Run[Any]) -> None:
    """The last test of the contract: the server is gone afterwards."""

    async def kill_under_load() -> list[Any]:
        endless = LIVELY.model_copy(update={"max_tokens": 400})
        requests = [asyncio.ensure_future(engine.chat(ask(f"Go on {k}."), endless, 4)) for k in range(32)]
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        _kill_server()
        results = await asyncio.gather(*requests, return_exceptions=True)
        await engine.died.wait()
        return results

    results = run(kill_under_load())
    assert {type(result) for result in results} <= {list, EngineDied}
    assert not engine.alive
    with pytest.raises(EngineDied) as caught:
        run(engine.chat(ask("Anybody there?"), LIVELY, 1))
    assert "The end of" in caught.value.message
    assert "engine-1.log" in caught.value.message
    assert caught.value.hint


def _kill_server() -> None:
    """Kill the process that computes: vLLM's engine core, or the whole of the fake."""
    tree = [process for process in psutil.Process().children(recursive=True)]
    names = {process: process.name() + " " + " ".join(process.cmdline()) for process in tree}
    cores = [process for process, name in names.items() if "EngineCore" in name]
    servers = [p for p, name in names.items() if "fake_server" in name and "guard" not in name]
    (cores or servers)[0].kill()


def fake(**behaviour: Any) -> EngineSettings:
    """Settings of a fake engine that misbehaves."""
    rest = {key: behaviour.pop(key) for key in list(behaviour) if key in EngineSettings.model_fields}
    return EngineSettings(type="fake", extra_args=behaviour, **rest)


async def _answers(
    settings: EngineSettings, directory: Path, requests: int, seed: int = 0
) -> list[list[str] | Exception]:
    """Ask one question after the other; texts, or the error of each."""
    results: list[list[str] | Exception] = []
    async with serve(directory, settings, log_dir=directory / "logs", seed=seed) as engine:
        for k in range(requests):
            try:
                results.append([c.text for c in await engine.chat(ask(f"Question {k}"), LIVELY, 2)])
            except (EngineError, RequestFailed) as error:
                results.append(error)
    return results


def test_the_seed_decides_the_samples(run: Run[Any], tmp_path: Path) -> None:
    one = run(_answers(fake(), tmp_path, 3, seed=1))
    assert run(_answers(fake(), tmp_path, 3, seed=1)) == one
    assert run(_answers(fake(), tmp_path, 3, seed=2)) != one


def test_a_passing_failure_is_tried_again(run: Run[Any], tmp_path: Path) -> None:
    results = run(_answers(fake(fail_every=3), tmp_path, 12))
    assert not [result for result in results if isinstance(result, Exception)]


def test_a_lasting_failure_is_one_requests_own(run: Run[Any], tmp_path: Path) -> None:
    results = run(_answers(fake(fail_every=1), tmp_path, 1))
    assert isinstance(results[0], RequestFailed)
    assert "failing, as told" in str(results[0])


def test_a_server_that_dies_tells_its_last_words(run: Run[Any], tmp_path: Path) -> None:
    *answered, last = run(_answers(fake(die_after=3), tmp_path, 4))
    assert all(isinstance(result, list) for result in answered)
    assert isinstance(last, EngineDied)
    assert "status 13" in last.message
    assert "dying before request 4, as told" in last.message


def test_a_stalled_server_counts_as_dead(run: Run[Any], tmp_path: Path) -> None:
    settings = fake(hang_after=1, request_timeout_s=0.5)
    answered, stalled, later = run(_answers(settings, tmp_path, 3))
    assert isinstance(answered, list)
    assert isinstance(stalled, EngineDied)
    assert "makes no progress" in stalled.message
    assert isinstance(later, EngineDied)


def test_a_slow_server_is_not_dead(run: Run[Any], tmp_path: Path) -> None:
    async def crowded() -> tuple[list[Any], bool]:
        settings = fake(latency=0.9, request_timeout_s=0.8)
        async with serve(tmp_path, settings, log_dir=tmp_path, seed=0) as engine:
            requests = []
            for k in range(4):  # one after the other, so that the server always has just done something
                requests.append(asyncio.ensure_future(engine.chat(ask(f"{k}"), LIVELY, 1)))
                await asyncio.sleep(0.3)
            return await asyncio.gather(*requests, return_exceptions=True), engine.alive

    results, alive = run(crowded())
    assert isinstance(results[0], RequestFailed)
    assert "request_timeout_s" in str(results[0])
    assert alive


def test_a_proxy_in_the_environment_is_not_used(
    run: Run[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(run(_answers(fake(), tmp_path, 1))[0], list)


def test_the_context_leaves_no_process_and_keeps_every_log(run: Run[Any], tmp_path: Path) -> None:
    run(_answers(fake(detach=True), tmp_path, 1))
    run(_answers(fake(), tmp_path, 1))
    assert not [p for p in psutil.Process().children(recursive=True) if "fake" in " ".join(p.cmdline())]
    logs = tmp_path / "logs"
    assert sorted(path.name for path in logs.iterdir()) == [
        "engine-1.log",
        "engine-2.log",
        "engine-latest.log",
    ]
    assert (logs / "engine-latest.log").resolve() == (logs / "engine-2.log").resolve()
    assert "serving on port" in (logs / "engine-latest.log").read_text()


def test_an_error_inside_the_block_ends_the_server_too(run: Run[Any], tmp_path: Path) -> None:
    async def fail() -> None:
        async with serve(tmp_path, fake(), log_dir=tmp_path, seed=0):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail())
    assert not [p for p in psutil.Process().children(recursive=True) if "fake" in " ".join(p.cmdline())]


def test_a_server_that_ends_at_once_is_reported_with_its_log(run: Run[Any], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="status 7 before it was ready") as caught:
        run(_answers(fake(exit_at_start=7), tmp_path, 1))
    assert "exiting at once with status 7, as told" in caught.value.message


def test_a_server_that_never_gets_ready_meets_its_deadline(run: Run[Any], tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"not ready after 0\.5 s"):
        run(_answers(fake(start_delay=1000, start_timeout_s=0.5), tmp_path, 1))
    assert time.monotonic() - began < DEADLINE_S


@pytest.mark.parametrize("kind", ["fake", "vllm"])
def test_a_taken_port_is_named_before_anything_starts(run: Run[Any], tmp_path: Path, kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} .* in use"):
            run(_answers(EngineSettings(type=kind, port=port), tmp_path, 1))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("kind", ["fake", "vllm"])
def test_a_missing_model_is_named_before_anything_starts(run: Run[Any], tmp_path: Path, kind: str) -> None:
    with pytest.raises(EngineError, match="no model directory"):
        run(_answers(EngineSettings(type=kind), tmp_path / "nowhere", 1))


def test_the_fake_judge_prefers_what_it_scores_higher(run: Run[Any], tmp_path: Path) -> None:
    async def opinions() -> tuple[list[float], list[float]]:
        async with serve(tmp_path, fake(), log_dir=tmp_path, seed=3) as engine:
            texts = [f"Answer number {k}." for k in range(24)]
            scores = []
            for text in texts:
                asked = ask(f"<response>{text}</response>")
                shares = (await engine.choose(asked, "Score: ", SCORES)).probabilities
                scores.append(sum(score * share for score, share in enumerate(shares)) / sum(shares))
            leads, gaps = [], []
            for k in range(23):
                pair = f"<response_1>{texts[k]}</response_1> <response_2>{texts[k + 1]}</response_2>"
                one, two = (await engine.choose(ask(pair), "Better response: ", ["1", "2"])).probabilities
                leads.append(one - two)
                gaps.append(scores[k] - scores[k + 1])
            return leads, gaps

    leads, gaps = run(opinions())
    assert max(gaps) > 1, "some answers are better than others"
    assert all((lead > 0) == (gap > 0) for lead, gap in zip(leads, gaps, strict=True) if abs(gap) > 2)


def test_an_endpoint_of_somebody_elses_answers_and_compares(run: Run[Any], tmp_path: Path) -> None:
    """The fake engine's server, reached the way a stranger's would be."""

    async def compare() -> tuple[list[Any], list[Any]]:
        settings = fake(port=free_port(0))
        address = f"http://127.0.0.1:{settings.port}"
        async with serve(tmp_path, settings, log_dir=tmp_path, seed=3):
            name = httpx.get(f"{address}/v1/models", trust_env=False).json()["data"][0]["id"]
            async with connect(f"{address}/v1", name) as judge:
                pair = "<response_1>Blue.</response_1> <response_2>Ten.</response_2>"
                answers = [await judge.chat(ask(f"{k} {pair}"), LIVELY, 1) for k in range(8)]
            async with connect(address, "another") as stranger:
                refused = await asyncio.gather(stranger.chat(ask("x"), LIVELY, 1), return_exceptions=True)
            return [reply.text for (reply,) in answers], refused

    texts, (refused,) = run(compare())
    assert any(parse_verdict(text) for text in texts)
    assert isinstance(refused, EngineError)
    assert "The model `another` does not exist." in str(refused)


@pytest.mark.slow
def test_vllm_says_what_is_wrong_with_an_unknown_architecture(
    run: Run[Any], checkpoint: Path, tmp_path: Path
) -> None:
    config = (checkpoint / "config.json").read_text()
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in checkpoint.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "config.json").write_text(config.replace("LlamaForCausalLM", "NobodyForCausalLM"))
    with pytest.raises(EngineError, match="before it was ready") as caught:
        run(_answers(SERVED["vllm"], broken, 1))
    assert "architecture" in caught.value.hint
