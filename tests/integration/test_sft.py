"""Real SFT children on a tiny model: the loss by value, what is learnt, what is refused."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.config import SftSettings
from selfreward.errors import TrainingError
from selfreward.training.checkpoint import adoptable, verify
from selfreward.training.jobs import SftJob
from selfreward.training.launch import Stopped
from tests.integration.training_runs import (
    Ran,
    Recorder,
    assert_nothing_left,
    attempt,
    kill_worker,
    overflow,
    run,
    weights,
    workers,
)
from tests.tiny_model import CHATML, make_tiny_model

RUBRIC = (
    "The response answers the question clearly, but it leaves out an example. "
    "Score: 0 Score: 1 Score: 2 Score: 3 Score: 4 Score: 5. First, wash the rice. "
    "Then cook it slowly, and let it rest for ten minutes. Now judge the answer: "
)
TOO_LONG = 5

pytestmark = pytest.mark.slow


def toy_examples() -> list[dict[str, Any]]:
    """Six judging examples that share a rubric, one of them too long, and four instruction examples."""
    subjects = ("rice", "water", "a letter", "a mountain", "the cat", "a paper clip")
    judging = [
        {"input": f"{RUBRIC}{subject}", "completion": f"It is {'very ' * number}good. Score: {number}"}
        for number, subject in enumerate(subjects)
    ]
    judging[TOO_LONG]["input"] += " and so on" * 100
    instruction = [
        {"input": f"Write {'a short ' * number}letter", "completion": "Thanks, neighbour" + "!" * number}
        for number in range(4)
    ]
    return [{"example_id": number} | example for number, example in enumerate(judging + instruction)]


def fitting() -> list[dict[str, Any]]:
    return [example for example in toy_examples() if example["example_id"] != TOO_LONG]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that compete with anything else wait for one another far longer than they compute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "M_0")


def make_job(root: Path, model: Path, seed: int = 3, **changes: Any) -> SftJob:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "examples.jsonl"
    path.write_text("\n".join(json.dumps(example) for example in toy_examples()))
    values = {
        "batch_size": 12,
        "micro_batch_size": 4,
        "learning_rate": 5e-3,
        "final_learning_rate": 1e-3,
        "max_length": 256,
    }
    return SftJob(
        model=model,
        output=root / "models" / "M_1",
        fence=7,
        examples=path,
        settings=SftSettings.model_validate(values | changes),
        seed=seed,
        work=root / "work",
    )


# ---- by hand, without TRL


def prompt_text(example: dict[str, Any]) -> str:
    return f"<|im_start|>user\n{example['input']}<|im_end|>\n<|im_start|>assistant\n"


def losses(model: Any, tokenizer: Any, example: dict[str, Any]) -> Any:
    """-log P of each token of the completion and of what the template ends it with, in nats."""
    import torch

    start = len(tokenizer(prompt_text(example)).input_ids)
    whole = f"{prompt_text(example)}{example['completion']}<|im_end|>\n"
    ids = torch.tensor([tokenizer(whole).input_ids])
    logprobs = model(ids).logits[0, :-1].log_softmax(-1)
    return -logprobs.gather(1, ids[0, 1:, None])[start - 1 :, 0]


def load(directory: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(directory)


def mean_loss(directory: Path) -> Any:
    """The mean over the completion tokens of all examples that fit, with its graph, and the model."""
    import torch

    model, tokenizer = load(directory)
    return torch.cat([losses(model, tokenizer, example) for example in fitting()]).mean(), model


# ---- a full run


@pytest.fixture(scope="module")
def full(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All examples in one batch of three micro-batches, a hundred passes."""
    return run(make_job(tmp_path_factory.mktemp("full"), tiny, epochs=100, learning_rate=1e-2))


def test_the_loss_is_the_mean_over_completion_tokens(full: Ran, tiny: Path) -> None:
    assert full.error is None, full.error
    expected, _ = mean_loss(tiny)
    assert full.recorder.series("loss")[0] == pytest.approx(expected.item(), abs=1e-5)


def test_the_gradient_is_that_of_the_loss(full: Ran, tiny: Path) -> None:
    import torch

    expected, model = mean_loss(tiny)
    expected.backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    assert full.recorder.series("grad_norm")[0] == pytest.approx(norm, rel=1e-4)


def test_the_examples_are_learnt_and_so_is_stopping(full: Ran) -> None:
    assert full.recorder.series("loss")[-1] < 0.1
    assert full.recorder.series("mean_token_accuracy")[-1] > 0.95
    model, tokenizer = load(full.job.output)
    example = fitting()[2]
    prompt = tokenizer(prompt_text(example), return_tensors="pt")
    reply = model.generate(**prompt, do_sample=False, max_new_tokens=60)[0, prompt.input_ids.shape[1] :]
    assert tokenizer.decode(reply) == example["completion"] + "<|im_end|>"


def test_the_checkpoint_is_published_intact_and_only_its_weights_differ(full: Ran, tiny: Path) -> None:
    assert full.result is not None and full.result.path == full.job.output
    assert verify(full.job.output, deep=True) == []
    manifest = adoptable(full.job.output)
    assert manifest is not None and manifest.digest == full.result.digest
    before, after = weights(tiny), weights(full.job.output)
    assert {name: value.dtype for name, value in before.items()} == {
        name: value.dtype for name, value in after.items()
    }
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (full.job.output / name).read_bytes() == (tiny / name).read_bytes()
    assert workers(full.job) == []


def test_events_come_in_order_and_name_what_is_too_long(full: Ran) -> None:
    kinds = [event["event"] for event in full.recorder.events]
    assert kinds == ["too_long", "start", *["metric"] * 100, "done"]
    assert full.recorder.of("too_long") == [{"event": "too_long", "example_ids": [TOO_LONG]}]
    start = full.recorder.of("start")[0]
    assert (start["total_steps"], start["examples"]) == (100, len(fitting()))
    rates = full.recorder.series("learning_rate")
    assert rates[0] == pytest.approx(1e-2) and rates == sorted(rates, reverse=True)


# ---- other ways to train


@pytest.fixture(scope="module")
def lora(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Adapters, with gradient checkpointing: TRL's own loss, which needs no cache."""
    adapters = {"enabled": True, "r": 4, "alpha": 32}
    root = tmp_path_factory.mktemp("lora")
    return run(make_job(root, tiny, lora=adapters, gradient_checkpointing=True, epochs=2))


def test_the_loss_of_trl_is_the_same(lora: Ran, full: Ran) -> None:
    """A new adapter changes nothing yet, so step 1 can be compared."""
    assert lora.error is None, lora.error
    assert lora.recorder.series("loss")[0] == pytest.approx(full.recorder.series("loss")[0], abs=1e-5)


def test_an_adapter_run_publishes_a_plain_merged_model(lora: Ran, tiny: Path) -> None:
    import torch

    before, after = weights(tiny), weights(lora.job.output)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert list(lora.job.output.glob("adapter*")) == []


def test_the_seed_decides_the_weights(tiny: Path, tmp_path: Path) -> None:
    def digest(name: str, seed: int) -> str:
        ran = run(make_job(tmp_path / name, tiny, seed=seed, batch_size=4, micro_batch_size=2, dropout=0.1))
        assert ran.result is not None, ran.error
        return ran.result.digest

    first = digest("first", 3)
    assert digest("again", 3) == first
    assert digest("other", 4) != first


# ---- refusals


@pytest.fixture(scope="module")
def refused(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Jobs that cannot succeed, and one whose template never ends a reply, side by side."""
    broken = make_tiny_model(tmp_path_factory.mktemp("models") / "M_0")
    overflow(broken)
    endless = make_tiny_model(tmp_path_factory.mktemp("models") / "M_0")
    (endless / "chat_template.jinja").write_text(CHATML.replace("<|im_end|>", ""))
    jobs = {
        "long": make_job(tmp_path_factory.mktemp("long"), tiny, max_length=64),
        "infinite": make_job(tmp_path_factory.mktemp("infinite"), broken),
        "endless": make_job(tmp_path_factory.mktemp("endless"), endless),
    }
    jobs["long"].examples.write_text(json.dumps(toy_examples()[0]))

    async def run_all() -> list[Ran]:
        return await asyncio.gather(*(attempt(job, Recorder(), asyncio.Event()) for job in jobs.values()))

    return dict(zip(jobs, asyncio.run(run_all()), strict=True))


def test_nothing_to_train_on_is_refused(refused: dict[str, Ran]) -> None:
    ran = refused["long"]
    assert isinstance(ran.error, TrainingError)
    assert "none of 1 examples" in ran.error.message and "longer than 64 tokens" in ran.error.message
    assert "bootstrap.sft.max_length" in ran.error.hint
    assert [event["event"] for event in ran.recorder.events] == ["too_long", "error"]
    assert_nothing_left(ran)


def test_a_loss_that_is_not_finite_aborts(refused: dict[str, Ran]) -> None:
    ran = refused["infinite"]
    assert isinstance(ran.error, TrainingError)
    assert "loss is nan at step 1" in ran.error.message
    assert "bootstrap.sft.learning_rate" in ran.error.hint
    assert ran.recorder.of("error")[0]["kind"] == "non_finite"
    assert_nothing_left(ran)


def test_a_template_that_never_ends_a_reply_is_noted(refused: dict[str, Ran], full: Ran) -> None:
    ran = refused["endless"]
    assert ran.error is None
    assert "9 of 9 completions" in ran.recorder.of("note")[0]["message"]
    assert full.recorder.of("note") == []


# ---- ends from outside


def test_a_killed_child_leaves_no_checkpoint_and_says_what_to_lower(tiny: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny, epochs=2000)
    ran = run(job, Recorder(react=("metric", lambda: kill_worker(job))))
    assert isinstance(ran.error, TrainingError)
    assert "was killed (SIGKILL)" in ran.error.message
    assert "bootstrap.sft.micro_batch_size" in ran.error.hint
    assert_nothing_left(ran)


def test_a_stop_ends_the_child(tiny: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, tiny, epochs=2000)
    stop = asyncio.Event()
    ran = run(job, Recorder(react=("start", stop.set)), stop)
    assert isinstance(ran.error, Stopped)
    assert_nothing_left(ran)


# ---- what rows have in common


tokens = st.lists(st.integers(1, 3), min_size=1, max_size=6)
rows = st.lists(
    st.tuples(tokens, tokens).map(
        lambda parts: {"input_ids": parts[0] + parts[1], "labels": [-100] * len(parts[0]) + parts[1]}
    ),
    min_size=1,
    max_size=4,
)


@given(rows)
def test_a_micro_batch_holds_every_token_and_label_of_its_rows(rows: list[dict[str, list[int]]]) -> None:
    from selfreward.training.completions import collate

    batch = collate(rows)
    prefix = batch["prefix_ids"][0].tolist()
    present = batch["attention_mask"][:, len(prefix) :].bool()
    for number, row in enumerate(rows):
        here = present[number]
        assert prefix + batch["input_ids"][number][here].tolist() == row["input_ids"]
        assert [-100] * len(prefix) + batch["labels"][number][here].tolist() == row["labels"]
        positions = batch["position_ids"][number][here].tolist()
        assert positions == list(range(len(prefix), len(row["input_ids"])))
        assert (batch["labels"][number][~here] == -100).all()


@settings(deadline=None, max_examples=25)
@given(rows)
def test_the_loss_of_a_micro_batch_is_that_of_its_rows_alone(
    tiny_in_memory: Any, rows: list[dict[str, list[int]]]
) -> None:
    import torch

    from selfreward.training.completions import collate, score

    alone = [gradient(tiny_in_memory, *score(tiny_in_memory, collate([row]))) for row in rows]
    together = gradient(tiny_in_memory, *score(tiny_in_memory, collate(rows)))
    torch.testing.assert_close(together, sum(alone), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def tiny_in_memory(tiny: Path) -> Any:
    return load(tiny)[0]


def gradient(model: Any, loss: Any, correct: Any) -> Any:
    """Loss, correct tokens and every gradient in one vector."""
    import torch

    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([loss.detach()[None], correct[None].float(), *(part.flatten() for part in gradients)])
