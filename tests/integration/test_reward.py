"""Real reward models on a tiny model: the loss by value, what is learnt, how they score, what is refused."""

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward import crash
from selfreward.config import RewardSettings, Settings
from selfreward.reporting import LogReporter
from selfreward.stages.reward_scorer import Scored, reward_scorer
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import verify
from selfreward.training.events import EventReader, EventWriter
from selfreward.training.jobs import RewardJob
from selfreward.training.reward_source import require_reward_head
from selfreward.types import CheckpointRow
from tests.integration.training_runs import weights
from tests.tiny_model import make_tiny_model, rewrite_config

SUBJECTS = ("rice", "water", "a letter", "a mountain", "the cat", "a paper clip", "a neighbour", "the air")
HELD_OUT = SUBJECTS[6:]
TOO_LONG = 99
CENTRE = 0.3

pytestmark = pytest.mark.slow


def pair(number: int, subject: str) -> dict[str, Any]:
    """The better answer thanks, whatever the subject."""
    return {
        "pair_id": number,
        "prompt": f"Write about {subject}.",
        "chosen": f"Thanks for {subject}{'!' * (number % 3)}",
        "rejected": f"No. {'Not ' * (number % 2)}{subject} again.",
    }


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that compete with anything else wait for one another far longer than they compute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "M_1")


def make_job(root: Path, model: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> RewardJob:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (taught() if rows is None else rows)))
    values = {
        "batch_size": 6,
        "micro_batch_size": 3,
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-4,
        "max_length": 256,
        "centre": CENTRE,
    }
    return RewardJob(
        model=model,
        model_digest="m",
        output=root / "models" / "R_1",
        fence=7,
        pairs=path,
        settings=RewardSettings.model_validate(values | changes),
        seed=3,
        work=root / "work",
        states=root / "states",
    )


# ---- the loss, without TRL


def reference(chosen: Any, rejected: Any, soft: Any, centre: float) -> float:
    """The mean of −p·log σ(Δ) − (1−p)·log σ(−Δ) + centre·(r⁺ + r⁻)², in double precision."""
    gap = np.asarray(chosen, dtype=np.float64) - np.asarray(rejected)
    log_sigma = -np.logaddexp(0, -gap), -np.logaddexp(0, gap)
    return float(
        np.mean(-soft * log_sigma[0] - (1 - soft) * log_sigma[1])
        + centre * np.mean((np.asarray(chosen) + np.asarray(rejected)) ** 2)
    )


def slope(chosen: Any, rejected: Any, soft: Any, centre: float) -> tuple[Any, Any]:
    """Its derivatives by each chosen and each rejected reward."""
    gap, both = np.asarray(chosen) - np.asarray(rejected), np.asarray(chosen) + np.asarray(rejected)
    by_gap = 1 / (1 + np.exp(-gap)) - soft
    return (by_gap + 2 * centre * both) / len(gap), (-by_gap + 2 * centre * both) / len(gap)


@pytest.fixture(scope="module")
def trainer(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainer as a job makes it, never run."""
    from selfreward.training import reward
    from selfreward.training.trainer import load_text_parts

    root = tmp_path_factory.mktemp("trainer")
    job = make_job(root, tiny)
    events = EventWriter(root / "events.jsonl")
    source, tokenizer = load_text_parts(tiny)
    model = reward._load(job, reward.headed(source, tokenizer), events)
    made = reward._trainer(job, model, tokenizer, [pair(0, "rice")], events)
    made.model.train()
    return made


rewards = st.floats(-20, 20, width=32)
labels = st.floats(0, 1, width=32)


@settings(deadline=None)
@given(st.lists(st.tuples(rewards, rewards, labels), min_size=1, max_size=5))
def test_loss_and_gradient_are_those_of_the_formula(
    trainer: Any, rows: list[tuple[float, float, float]]
) -> None:
    import torch

    chosen, rejected, soft = (np.array(column) for column in zip(*rows, strict=True))
    given_rewards = torch.tensor(np.concatenate([chosen, rejected])[:, None], dtype=torch.float64)
    given_rewards.requires_grad_()
    inputs = {"soft_label": torch.tensor(soft), "attention_mask": torch.ones(len(rows), 1)}
    loss = trainer.compute_loss(lambda **_: SimpleNamespace(logits=given_rewards), inputs)
    loss.backward()
    assert loss.item() == pytest.approx(reference(chosen, rejected, soft, CENTRE), abs=1e-5, rel=1e-5)
    expected = np.concatenate(slope(chosen, rejected, soft, CENTRE))
    np.testing.assert_allclose(given_rewards.grad.numpy()[:, 0], expected, atol=1e-6)


tokens = st.lists(st.integers(3, 300), min_size=1, max_size=12)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(tokens, tokens, labels), min_size=1, max_size=4))
def test_padding_changes_nothing(trainer: Any, rows: list[tuple[list[int], list[int], float]]) -> None:
    """The loss of rows of unequal length in one batch is that of rewards that were computed one by one."""
    import torch

    alone = [[trainer.model(torch.tensor([row[side]])).logits.item() for row in rows] for side in (0, 1)]
    batch = trainer.data_collator(
        [{"chosen_ids": row[0], "rejected_ids": row[1], "soft_label": row[2]} for row in rows]
    )
    soft = np.array([row[2] for row in rows])
    expected = reference(alone[0], alone[1], soft, CENTRE)
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected, abs=1e-5)


# ---- what is learnt


@dataclass(frozen=True)
class Trained:
    """A job that was run in this process, with what it told."""

    job: RewardJob
    events: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def series(self, name: str) -> list[float]:
        return [event["values"][name] for event in self.of("metric")]


def train(job: RewardJob) -> Trained:
    """As the child does, without starting one."""
    from selfreward.training.reward import train_reward

    job.work.mkdir(parents=True, exist_ok=True)
    path = job.work / "events.jsonl"
    train_reward(job, EventWriter(path))
    return Trained(job, EventReader(path).read())


def die_training(job: RewardJob) -> None:
    """The same, killed at its fifth step. In a forked process: the imports take longer than the training."""
    import torch

    torch.set_num_threads(1)  # more do not outlive a fork
    os.environ[crash.VARIABLE] = "train:step:5"
    crash._wanted.cache_clear()
    train(job)


def taught() -> list[dict[str, Any]]:
    """Six pairs, and one that is too long."""
    long = pair(TOO_LONG, "rice") | {"chosen": "and so on " * 300}
    return [*(pair(number, subject) for number, subject in enumerate(SUBJECTS[:6])), long]


@pytest.fixture(scope="module")
def full(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Known pairs, thirty passes."""
    return train(make_job(tmp_path_factory.mktemp("full"), tiny, epochs=30))


def margins(model: Path) -> list[float]:
    """Of the better answers to prompts that were not trained on."""
    from selfreward.training.reward_scoring import load_reward_model

    score = load_reward_model(model)
    held_out = [pair(number, subject) for number, subject in enumerate(HELD_OUT)]
    better, worse = (
        score([(row["prompt"], row[side]) for row in held_out]) for side in ("chosen", "rejected")
    )
    return [good - bad for good, bad in zip(better, worse, strict=True)]


def test_the_better_answer_to_an_unseen_prompt_is_rewarded(full: Trained) -> None:
    assert full.series("loss")[-1] < full.series("loss")[0] / 2
    assert full.series("rewards/margins")[-1] > full.series("rewards/margins")[0] + 1
    assert full.series("rewards/accuracies")[-1] == 1.0
    assert min(margins(full.job.output)) > 1


def test_a_reward_model_is_published_whole_with_a_head_of_one_label(full: Trained, tiny: Path) -> None:
    assert verify(full.job.output, deep=True) == []
    require_reward_head(full.job.output, "R_1")
    config = json.loads((full.job.output / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"] and config["pad_token_id"] == 0
    assert (full.job.output / "tokenizer.json").read_bytes() == (tiny / "tokenizer.json").read_bytes()
    made = weights(full.job.output)
    assert made["score.weight"].shape == (1, 64) and "lm_head.weight" not in made
    assert {value.dtype for value in made.values()} == {value.dtype for value in weights(tiny).values()}
    assert full.of("too_long") == [{"event": "too_long", "pair_ids": [TOO_LONG]}]


def test_adapters_are_merged_and_the_head_is_trained_with_them(
    full: Trained, tiny: Path, tmp_path: Path
) -> None:
    import torch

    ran = train(make_job(tmp_path, tiny, lora={"enabled": True, "r": 4}, epochs=3))
    first = full.series("loss")[0]
    assert ran.series("loss")[0] == pytest.approx(first, abs=1e-5), "the same head is drawn"
    before, made, whole = weights(tiny), weights(ran.job.output), weights(full.job.output)
    assert made.keys() == whole.keys()
    layer = "model.layers.0.mlp.down_proj.weight"
    assert not torch.equal(before[layer], made[layer])
    require_reward_head(ran.job.output, "R_1")


def test_a_killed_training_goes_on_and_ends_as_if_it_had_not_been(
    full: Trained, tiny: Path, tmp_path: Path
) -> None:
    job = make_job(tmp_path, tiny, epochs=30, save_minutes=1e-9)
    killed = multiprocessing.get_context("fork").Process(target=die_training, args=(job,))
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL and not job.output.exists()
    again = train(job)
    assert [event["first_step"] for event in again.of("start")] == [1, 5]
    for name, value in weights(full.job.output).items():
        np.testing.assert_allclose(weights(job.output)[name].float(), value.float(), atol=2e-3)


def test_what_cannot_be_trained_says_why(tiny: Path, tmp_path: Path) -> None:
    from selfreward.training.failures import JobFailed
    from selfreward.training.reward import headed

    with pytest.raises(JobFailed, match="0 pairs can be trained on") as few:
        train(make_job(tmp_path, tiny, max_length=64, rows=[pair(1, "rice " * 50)]))
    assert few.value.kind == "too_few_pairs"
    with pytest.raises(JobFailed, match="no head for rewards on a mamba model") as bad:
        headed(SimpleNamespace(model_type="mamba"), SimpleNamespace())  # type: ignore[arg-type]
    assert bad.value.kind == "bad_model" and "train.objective" in bad.value.hint


# ---- how it scores


def by_hand(directory: Path, prompt: str, response: str) -> float:
    """The reward of one conversation, alone and without ours."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32)
    text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>\n"
    ids = AutoTokenizer.from_pretrained(directory)(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        return float(model(ids).logits.item())


def judged_by(model: Path, directory: Path) -> Workplace:
    """Where nothing is but this judge."""
    judge = {"type": "reward_model", "reward_model": str(model), "reward_batch_size": 3}
    nothing: Any = None
    return Workplace(
        directory=directory,
        store=nothing,
        settings=Settings.model_validate({"judge": judge}),
        run=nothing,
        iteration=nothing,
        checkpoint=cast("CheckpointRow", SimpleNamespace(path="models/M_1")),
        fence=1,
        reporter=LogReporter({}),
        stop=asyncio.Event(),
    )


def test_the_server_gives_the_rewards_of_the_model_whatever_the_batch(full: Trained, tmp_path: Path) -> None:
    pairs = [(row["prompt"], row[side]) for row in taught()[:4] for side in ("chosen", "rejected")]
    place = judged_by(full.job.output, tmp_path)

    async def ask() -> list[Scored]:
        async with reward_scorer(place) as scorer:
            asked = [*pairs, ("Too long.", "and so on " * 2000)]
            return await asyncio.gather(*(scorer.score(*one) for one in asked))

    *told, long = asyncio.run(ask())
    for (prompt, response), one in zip(pairs, told, strict=True):
        assert one.reward == pytest.approx(by_hand(full.job.output, prompt, response), abs=1e-5)
        assert one.fits and one.tokens > 5
    assert long.reward is None and not long.fits


def test_a_model_without_the_head_is_refused(full: Trained, tiny: Path, tmp_path: Path) -> None:
    from selfreward.training.failures import JobFailed
    from selfreward.training.reward_scoring import load_reward_model

    with pytest.raises(JobFailed, match="is a LlamaForCausalLM") as refused:
        load_reward_model(tiny)
    assert "num_labels = 1" in refused.value.hint
    two = shutil.copytree(full.job.output, tmp_path / "two")
    rewrite_config(two, id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})
    with pytest.raises(JobFailed, match="has 2 labels"):
        load_reward_model(two)
    empty = shutil.copytree(tiny, tmp_path / "empty")
    rewrite_config(empty, architectures=["LlamaForSequenceClassification"], id2label={"0": "r"})
    with pytest.raises(JobFailed, match="no weights for score"):
        load_reward_model(empty)
    mute = shutil.copytree(full.job.output, tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    with pytest.raises(JobFailed, match="no chat template"):
        load_reward_model(mute)
    lent = load_reward_model(mute, tiny)
    assert lent([("Hello", "there")]) == load_reward_model(full.job.output)([("Hello", "there")])
