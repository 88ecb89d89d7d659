"""Reinforcement learning with TRL on a tiny model: what it learns, its figures, what a kill leaves behind.

In this process where nothing has to die: a child takes longer to start than to train.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from selfreward.config import TrainSettings
from selfreward.training.checkpoint import verify
from selfreward.training.events import EventReader, EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import RlJob
from tests.integration.training_runs import overflow, weights

pytestmark = pytest.mark.slow

LETTER = "e"
ALWAYS = 1e-9
"""Minutes between two states: after every step."""
GENERATIONS = 4
PROMPTS = [f"Name {number} uses of a paper clip." for number in range(6)]
HELD_OUT = [f"Write {number} short letters." for number in range(4)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that compete with anything else wait for one another; and two trainings must agree."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


def make_job(root: Path, model: Path, rl: dict[str, Any] | None = None, **changes: Any) -> RlJob:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "prompts.jsonl"
    rows = ({"prompt_id": number, "prompt": text} for number, text in enumerate(PROMPTS))
    path.write_text("\n".join(map(json.dumps, rows)))
    reward_model = changes.pop("reward_model", None)
    values = {
        "objective": "rl",
        "batch_size": 8,
        "micro_batch_size": 4,
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-4,
        "max_length": 256,
        "save_minutes": 0,
        "rl": {"max_tokens": 8, "generations": GENERATIONS} | (rl or {}),
    } | changes
    return RlJob(
        model=model,
        model_digest="digest of M_1",
        output=root / "models" / "M_2",
        fence=7,
        prompts=path,
        settings=TrainSettings.model_validate(values),
        seed=3,
        work=root / "work",
        states=root,
        reward_model=reward_model,
        reward_digest="digest of R_1",
    )


def train(job: RlJob) -> list[dict[str, Any]]:
    """Train here; returns the events."""
    from selfreward.training.rl import train_rl

    path = job.prompts.parent / "events.jsonl"
    path.unlink(missing_ok=True)
    try:
        train_rl(job, EventWriter(path))
    finally:
        events = EventReader(path).read()
    return events


def figures(events: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [event["values"] for event in events if event["event"] == "metric"]


def letters(texts: Sequence[str]) -> list[float | None]:
    """The rule: the more of one letter, the better."""
    return [text.count(LETTER) / max(1, len(text)) for text in texts]


class Rule:
    __name__ = "rule"

    def __call__(self, prompts: Any, completions: Any, **more: Any) -> list[float | None]:
        return letters([answer[-1]["content"] for answer in completions])


@pytest.fixture
def by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    from selfreward.training import rl

    monkeypatch.setattr(rl, "reward_of", lambda job: Rule())


def answers(model: Path) -> list[str]:
    """Of a checkpoint to prompts that it was not trained on."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    asked = tokenizer.apply_chat_template(
        [[{"role": "user", "content": text}] for text in HELD_OUT * 8],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        padding=True,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        written = loaded.generate(**asked, max_new_tokens=8, do_sample=True, top_k=0, temperature=1.0)
    return list(tokenizer.batch_decode(written[:, asked["input_ids"].shape[1] :], skip_special_tokens=True))


# ---- what is learnt


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_the_reward_of_answers_to_held_out_prompts_rises(
    algorithm: str, tiny_model: Path, tmp_path: Path, by_rule: None
) -> None:
    ways = {"algorithm": algorithm, "kl": 0.01, "temperature": 1.0, "generations": 8}
    rates = {"learning_rate": 1e-2, "final_learning_rate": 1e-2}
    job = make_job(tmp_path, tiny_model, ways, epochs=12, batch_size=64, micro_batch_size=64, **rates)
    told = figures(train(job))
    before, after = (np.mean(letters(answers(model))) for model in (tiny_model, job.output))
    assert after > 2 * before, (before, after, [values["reward"] for values in told])
    assert abs(told[0]["kl"]) < 1e-4, "the first answers are M_t's own"
    assert told[-1]["kl"] > 0.01, "it has gone from M_t"
    assert all(values["completions/mean_length"] <= 8 for values in told)
    assert verify(job.output, deep=True) == []


def test_adapters_learn_from_a_reward_model_and_prompts_that_are_too_long_are_left_out(
    tiny_model: Path, scorer: Path, tmp_path: Path
) -> None:
    from selfreward.training.reward_scoring import load_reward_model

    job = make_job(
        tmp_path, tiny_model, reward_model=scorer, lora={"enabled": True, "r": 4}, gradient_checkpointing=True
    )
    with job.prompts.open("a") as file:
        file.write("\n" + json.dumps({"prompt_id": 99, "prompt": "word " * 300}))
    events = train(job)
    assert [event["prompt_ids"] for event in events if event["event"] == "too_long"] == [[99]]
    assert len(figures(events)) == 3, "six prompts, two a step"
    model = load_reward_model(scorer)
    written = [(prompt, answer) for prompt in PROMPTS for answer in ("yes", "because water boils", "")]
    spread = [reward for reward in model(written)]
    for values in figures(events):
        assert min(spread) - 10 < values["reward"] < max(spread) + 10
        assert values["reward_std"] > 0
    before, after = weights(tiny_model), weights(job.output)
    assert any((before[name] != after[name]).any() for name in before), "merged into the weights"


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with opinions: the tiny one's body under a random head."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    directory = tmp_path_factory.mktemp("scorer") / "R_1"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
        torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(directory)
    return directory


def test_a_training_that_is_broken_off_goes_on_and_ends_as_one_that_was_left_alone(
    tiny_model: Path, scorer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a state being saved, as a kill may come: to die takes a child, and seconds more."""
    from selfreward.training import resuming

    alone = make_job(tmp_path / "alone", tiny_model, reward_model=scorer, epochs=2)
    expected = figures(train(alone))
    job = make_job(tmp_path / "broken off", tiny_model, reward_model=scorer, epochs=2, save_minutes=ALWAYS)
    saved: list[str] = []

    def break_off(point: str) -> None:
        saved.append(point)
        if len(saved) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resuming, "crash_point", break_off)
        train(job)
    assert not job.output.exists()
    events = train(job)
    [start] = [event for event in events if event["event"] == "start"]
    assert start["first_step"] == 5
    names = ("reward", "kl", "loss", "completions/mean_length")
    assert [[values[name] for name in names] for values in figures(events)] == [
        [values[name] for name in names] for values in expected[4:]
    ]
    found, wanted = weights(job.output), weights(alone.output)
    assert all((found[name] == wanted[name]).all() for name in wanted)


# ---- what stops it


def test_a_policy_that_is_not_finite_stops_it_and_nothing_is_published(
    tiny_model: Path, tmp_path: Path, by_rule: None
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "M_1")
    overflow(model)
    job = make_job(tmp_path, model)
    with pytest.raises(JobFailed) as failed:
        train(job)
    assert failed.value.kind == "non_finite"
    assert "train.learning_rate" in failed.value.hint
    assert not job.output.exists()


def test_prompts_without_room_for_an_answer_are_refused_with_what_would_do(
    tiny_model: Path, tmp_path: Path, by_rule: None
) -> None:
    with pytest.raises(JobFailed, match=r"none of 6 prompts .* train.rl.max_tokens is 250"):
        train(make_job(tmp_path, tiny_model, {"max_tokens": 250}))


# ---- the order of prompts


@given(
    prompts=st.integers(1, 20),
    per_batch=st.integers(1, 7),
    generations=st.integers(2, 4),
    repeats=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_every_prompt_comes_in_every_pass_in_whole_groups(
    prompts: int, per_batch: int, generations: int, repeats: int, epoch: int
) -> None:
    from selfreward.training.rl_trainers import PromptBatches

    sampler = PromptBatches(prompts, per_batch, generations, repeats, seed=3)
    sampler.set_epoch(epoch)
    order = list(sampler)
    size = per_batch * generations
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    assert len(order) == len(sampler) == size * len(batches)
    assert all(batch == batches[place - place % repeats] for place, batch in enumerate(batches))
    assert set(order) == set(range(prompts))
    assert len(batches) == repeats * -(-prompts // per_batch)
    for batch in batches:
        groups = [batch[start : start + generations] for start in range(0, size, generations)]
        assert all(len(set(group)) == 1 for group in groups)
    assert order == list(sampler), "the same again, as a training that goes on needs it"


# ---- TRL's figures against a few lines of numpy, in TRL's own code

TOKENS = 5
ANSWERS = 2 * GENERATIONS
KL, CLIP = 0.3, 0.2
logprobs = arrays.arrays(np.float32, (ANSWERS, TOKENS), elements=st.floats(-4, 0, width=32))
changes = arrays.arrays(np.float32, (ANSWERS, TOKENS), elements=st.floats(-0.125, 0.125, width=32))
some_rewards = st.lists(st.one_of(st.floats(-3, 3, width=32), st.just(math.nan)), min_size=8, max_size=8)
some_lengths = st.lists(st.integers(1, TOKENS), min_size=ANSWERS, max_size=ANSWERS)
Figures = tuple[float, np.ndarray, np.ndarray, float]
"""(loss, its gradient by the policy's log-probabilities, advantages, kl) of a batch."""


@pytest.fixture(scope="module")
def trainers(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from selfreward.training.rl import make_trainer
    from selfreward.training.trainer import load_text_parts

    config, tokenizer = load_text_parts(tiny_model)
    made = {}
    for algorithm in ("rloo", "grpo"):
        root = tmp_path_factory.mktemp(algorithm)
        job = make_job(root, tiny_model, {"algorithm": algorithm, "kl": KL, "clip": CLIP}, micro_batch_size=8)
        rows = [{"prompt": text} for text in PROMPTS]
        trainer = make_trainer(job, config, tokenizer, rows, Rule(), EventWriter(root / "events.jsonl"))
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        made[algorithm] = trainer
    return made


def computed(
    trainer: Any,
    rewards: np.ndarray,
    old: np.ndarray,
    policy: np.ndarray,
    reference: np.ndarray,
    lengths: Any,
) -> Figures:
    """By TRL: only what writes answers, rewards them and runs a model is replaced."""
    import torch

    end, width = trainer.eos_token_ids[0], max(lengths)
    asked, answers = [[1, 2]] * ANSWERS, [[7] * (length - 1) + [end] for length in lengths]
    texts = [[{"role": "assistant", "content": "x"}]] * ANSWERS
    rloo = (asked, answers, texts)
    written = rloo if trainer._name == "RLOO" else (asked, answers, None, texts, None, {}, None, None)
    before = iter((old, reference) if trainer._name == "RLOO" else (reference,))
    learning = torch.tensor(policy, requires_grad=True)

    def logps(*given: Any, **more: Any) -> Any:
        found = learning if torch.is_grad_enabled() else torch.tensor(next(before))
        return found[:, :width], torch.zeros(ANSWERS, width), None

    trainer._metrics["train"].clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_generate", lambda prompts: written)
        patch.setattr(trainer, "_calculate_rewards", lambda *given: torch.tensor(rewards)[:, None])
        patch.setattr(trainer, "_get_per_token_logps_and_entropies", logps)
        rows = [{"prompt": [{"role": "user", "content": "x"}]} for _ in range(ANSWERS)]
        batch = trainer._generate_and_score_completions(rows)
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert learning.grad is not None
    kl = trainer._metrics["train"]["kl"][0]
    return loss.item(), learning.grad.numpy(), batch["advantages"].numpy(), kl


def in_groups(rewards: np.ndarray, advantage: Callable[[float, np.ndarray], float]) -> np.ndarray:
    """An advantage for each reward from it and the others of its group; 0 without a reward, or alone."""
    found = np.zeros(ANSWERS)
    for place in np.flatnonzero(~np.isnan(rewards)):
        start = place - place % GENERATIONS
        group = np.arange(start, start + GENERATIONS)
        others = rewards[group[(group != place) & ~np.isnan(rewards[group])]]
        found[place] = advantage(rewards[place], others) if len(others) else 0.0
    return found


def rloo(
    rewards: np.ndarray, old: np.ndarray, policy: np.ndarray, reference: np.ndarray, mask: np.ndarray
) -> Figures:
    """The KL term is part of the reward; the baseline is the mean of the others; the ratio is clipped."""
    kl = ((old - reference) * mask).sum(1)
    advantages = in_groups(rewards - KL * kl, lambda mine, others: mine - others.mean())
    ratio = np.exp(((policy - old) * mask).sum(1))
    clipped = np.clip(ratio, 1 - CLIP, 1 + CLIP)
    loss = -np.minimum(ratio * advantages, clipped * advantages).mean()
    learns = ratio * advantages <= clipped * advantages
    gradient = -(advantages * ratio * learns)[:, None] * mask / ANSWERS
    return loss, gradient, advantages, kl.sum() / mask.sum()


def grpo(
    rewards: np.ndarray, old: np.ndarray, policy: np.ndarray, reference: np.ndarray, mask: np.ndarray
) -> Figures:
    """In standard deviations of the group. The KL term, which is never negative, is added to each token,
    times the ratio of probabilities: 1, with a gradient that makes the whole term's that of the divergence.
    """

    def advantage(mine: float, others: np.ndarray) -> float:
        group = np.append(others, mine)
        return (mine - group.mean()) / (group.std(ddof=1) + 1e-4)

    advantages = in_groups(rewards, advantage)
    lead = reference - policy
    kl = np.exp(lead) - lead - 1
    tokens = mask.sum()
    loss = ((KL * kl - advantages[:, None]) * mask).sum() / tokens
    gradient = (KL * (policy - reference) - advantages[:, None]) * mask / tokens
    return loss, gradient, advantages, (kl * mask).sum() / tokens


@pytest.mark.parametrize("formula", [rloo, grpo])
@settings(max_examples=25, deadline=None)
@given(rewards=some_rewards, old=logprobs, change=changes, lead=changes, lengths=some_lengths)
def test_advantages_kl_loss_and_gradient_are_those_of_the_papers(
    trainers: dict[str, Any],
    formula: Callable[..., Figures],
    rewards: list[float],
    old: np.ndarray,
    change: np.ndarray,
    lead: np.ndarray,
    lengths: list[int],
) -> None:
    given_rewards = np.array(rewards, dtype=np.float32)
    policy, reference = old + change, old + 8 * lead
    mask = np.arange(TOKENS) < np.array(lengths)[:, None]
    found = computed(trainers[formula.__name__], given_rewards, old, policy, reference, lengths)
    exact = [array.astype(np.float64) for array in (given_rewards, old, policy, reference)]
    for mine, theirs in zip(found, formula(*exact, mask), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
