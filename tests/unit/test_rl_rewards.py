"""The judge's expected score as a reward, asked of a real server of scripted replies."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from selfreward.config import JudgeSettings, TrainSettings
from selfreward.engines import fake_choices
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import RlJob, read_job, write_job
from selfreward.training.rewards import JudgeReward

TEMPLATE = "Judge this.\n{{ prompt }}\n<response>{{ response }}</response>"
PROMPTS = ["Name a river.", "Name a lake.", "Name a hill."]
ANSWERS = ["The Danube.", "Lake Como, I think.", "Rather not."]
SEED = 5

Ask = Callable[..., JudgeReward]


@contextmanager
def server(*flags: str) -> Iterator[str]:
    """The address of a fake engine."""
    argv = [sys.executable, "-m", "selfreward.engines.fake_server", "--seed", str(SEED), *flags]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().split()[-1]}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Ask]:
    """Makes a reward of a judge served with these flags."""
    with ExitStack() as stack:

        def make(*flags: str, template: str = TEMPLATE, **settings: str) -> JudgeReward:
            job = RlJob(
                model=tmp_path,
                output=tmp_path / "M_2",
                fence=1,
                prompts=tmp_path / "prompts.jsonl",
                settings=TrainSettings(objective="rl"),
                work=tmp_path / "work",
                judge_url=stack.enter_context(server(*flags)),
                judge_model="fake",
                judge=JudgeSettings.model_validate(settings),
                template=template,
            )
            found = read_job(write_job(job, tmp_path))
            assert isinstance(found, RlJob)
            return JudgeReward(found)

        yield make


def rewards(reward: JudgeReward, said: dict[str, float] | None = None) -> list[float | None]:
    """Of the three answers, in TRL's format."""

    def log_metric(name: str, value: float) -> None:
        if said is not None:
            said[name] = value

    return reward(
        prompts=[[{"role": "user", "content": text}] for text in PROMPTS],
        completions=[[{"role": "assistant", "content": text}] for text in ANSWERS],
        log_metric=log_metric,
        trainer_state=None,
    )


def expected(prompt: str, answer: str) -> float:
    """Σ s·P(s) over the six scores, from what the server says it goes on with, scaled to [−1, 1]."""
    text = TEMPLATE.replace("{{ prompt }}", prompt).replace("{{ response }}", answer)
    begun = [{"role": "user", "content": text}, {"role": "assistant", "content": "Score: "}]
    shares = fake_choices.next_token(SEED, fake_choices.conversation(begun, begun=True))
    mass = sum(shares[str(score)] for score in range(6))
    return 2 * sum(score * shares[str(score)] for score in range(6)) / mass / 5 - 1


def test_the_reward_is_the_expected_score_between_minus_one_and_one(judge: Ask) -> None:
    said: dict[str, float] = {}
    found = rewards(judge(), said)
    wanted = [expected(prompt, answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert all(-1 <= value <= 1 for value in wanted) and len(set(wanted)) == 3
    assert said == {"unrewarded": 0.0}


def test_it_is_the_same_the_second_time_and_after_failures_that_pass(judge: Ask) -> None:
    reward = judge("--fail-every", "4")
    assert rewards(reward) == rewards(reward) == rewards(judge())


def test_what_the_judge_cannot_take_has_no_reward_and_the_others_have_theirs(judge: Ask) -> None:
    long, said = "word " * 60, dict[str, float]()
    reward = judge("--max-model-len", "40")
    found = reward(
        prompts=[[{"role": "user", "content": text}] for text in PROMPTS],
        completions=[[{"role": "assistant", "content": text}] for text in (ANSWERS[0], long, ANSWERS[2])],
        log_metric=said.__setitem__,
    )
    assert found[1] is None
    assert found[::2] == pytest.approx([expected(PROMPTS[0], ANSWERS[0]), expected(PROMPTS[2], ANSWERS[2])])
    assert said == {"unrewarded": pytest.approx(1 / 3)}


def test_a_judge_that_rewards_nothing_at_first_is_refused_with_what_may_help(judge: Ask) -> None:
    with pytest.raises(JobFailed) as failed:
        rewards(judge("--max-model-len", "5"))
    assert failed.value.kind == "no_reward"
    assert "judge.template" in failed.value.hint


def test_an_engine_that_is_gone_is_told_from_a_trainer_that_failed(
    judge: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfreward.engines.client.EXIT_WAIT_S", 0.01)
    with pytest.raises(JobFailed) as failed:
        rewards(judge("--die-after", "3"))
    assert failed.value.kind == "engine"


def test_a_yes_or_no_is_a_reward_too(judge: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfreward.engines.client import EngineClient
    from selfreward.types import Choice

    async def choose(self: EngineClient, messages: object, stem: str, choices: tuple[str, ...]) -> Choice:
        await asyncio.sleep(0)
        assert (stem, choices) == ("", ("No", "Yes"))
        return Choice(probabilities=(0.2, 0.6))

    monkeypatch.setattr(EngineClient, "choose", choose)
    assert rewards(judge(scale="yes_no")) == pytest.approx([0.5, 0.5, 0.5])


def test_a_judge_takes_no_torch() -> None:
    code = "import sys, selfreward.training.rewards; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, check=True)
    assert json.loads(done.stdout) is False
