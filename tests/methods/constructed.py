"""A task whose best answer is known, and what each objective makes of it.

`python -m tests.methods.constructed` prints a table. Each kind of request has a right digit and a wrong one,
and the right one of one kind is the wrong one of another. An answer is the better the more of its digits are
right. A tiny random model first learns to write all of these answers alike; then each objective trains it,
through the real worker, on the same scored answers. Measured on nouns that no training has seen: the margin,
log P(best) - log P(worst) in nats (of a reward model: r(best) - r(worst)), and the share of right
digits in what the model writes itself.
"""

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.config import TrainSettings
from selfreward.training.events import EventWriter
from selfreward.training.jobs import (
    AnyTraining,
    DpoJob,
    RankJob,
    RewardJob,
    RlJob,
    SftJob,
    plain,
    reward_settings,
)
from selfreward.training.launch import run_job
from selfreward.training.worker import RUN
from tests.tiny_model import make_tiny_model

RIGHT_AND_WRONG = {"Name": ("1", "2"), "Write": ("2", "3"), "Wash": ("3", "4"), "Explain": ("4", "1")}
NOUNS = ("the letter", "a clip", "water", "a mountain", "the example", "minutes", "a task", "the air")
UNSEEN = ("a neighbour", "the reply", "uses", "a system")
SCORED = {(0, 0, 0): 5.0, (0, 1): 2.0, (1, 0): 3.0, (1, 1, 1): 0.0}
"""Answers as places in RIGHT_AND_WRONG, of unequal length, with their scores."""
ANSWERS = 8
"""Written to each unseen request when it is measured what the model writes itself."""
COMMON: dict[str, Any] = {
    "learning_rate": 5e-4,
    "final_learning_rate": 1e-4,
    "batch_size": 8,
    "micro_batch_size": 4,
    "max_length": 64,
    "save_minutes": 0,
    "bf16": False,
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dpo": {},
    "dpo: ipo": {"losses": ("ipo",)},
    "dpo: robust": {"losses": ("robust",), "label_smoothing": 0.1},
    "dpo: sigmoid + sft (IRPO)": {"losses": ("sigmoid", "sft")},
    "cdpo": {"objective": "cdpo"},
    "cream": {"objective": "cream"},
    "slic": {"objective": "slic"},
    "slic, target = reference": {"objective": "slic", "slic": {"target": "reference"}},
    "rrhf": {"objective": "rrhf"},
    "sft_positive": {"objective": "sft_positive"},
    "reward_model": {"objective": "reward_model", "reward": {**COMMON, "learning_rate": 2e-3, "epochs": 8}},
    "rl: rloo": {"objective": "rl"},
    "rl: grpo": {"objective": "rl", "rl": {"algorithm": "grpo"}},
}
RL = {"max_tokens": 6, "generations": 8, "kl": 0.02, "temperature": 1.0}
RL_BATCHES = {"batch_size": 32, "micro_batch_size": 32, "epochs": 4}


@dataclass(frozen=True)
class Measured:
    """A checkpoint on the unseen requests."""

    margin: float
    """Nats, or a difference of rewards."""
    right: float | None = None
    """Share of right digits in its own answers; None for a reward model."""


Run = Callable[[AnyTraining], None]


def in_worker(job: AnyTraining) -> None:
    """The job in a child process of its own, as the daemon runs it. Raises TrainingError."""

    async def hear(event: dict[str, Any]) -> None:
        pass

    asyncio.run(run_job(job, job.work.parent, hear, asyncio.Event()))


def in_process(job: AnyTraining) -> None:
    """The job here: a child takes longer to start than this task to learn."""
    job.work.mkdir(parents=True, exist_ok=True)
    RUN[job.kind](job, EventWriter(job.work.parent / "events.jsonl"))


class Task:
    """The model that has learnt to write all answers alike, and trainings of it below a directory."""

    def __init__(self, directory: Path, run: Run = in_worker, warming_epochs: int = 30) -> None:
        self._directory, self._run = directory, run
        self.model = self._warm(warming_epochs)

    def train(self, name: str, settings: Mapping[str, Any], reward_model: Path | None = None) -> Path:
        """What this objective makes of the model; returns the directory of the checkpoint."""
        values = COMMON | {"epochs": 4} | (RL_BATCHES if settings.get("objective") == "rl" else {}) | settings
        if values.get("objective") == "rl":
            values |= {"rl": RL | values.get("rl", {})}
        return self._trained(name, TrainSettings.model_validate(values), reward_model)

    def _trained(self, name: str, train: TrainSettings, reward_model: Path | None) -> Path:
        root = self._directory / "".join(each if each.isalnum() else "_" for each in name)
        root.mkdir()
        common: dict[str, Any] = {
            "model": self.model,
            "output": root / "models" / "M_2",
            "fence": 1,
            "seed": 3,
            "work": root / "job" / "work",
        }
        rows, job = root / "rows.jsonl", None
        if train.objective == "rrhf":
            _write(rows, groups())
            job = RankJob(groups=rows, settings=train, **common)
        elif train.objective == "sft_positive":
            _write(rows, positives())
            job = SftJob(section="train", examples=rows, settings=plain(train), **common)
        elif train.objective == "rl":
            _write(rows, ({"prompt_id": n, "prompt": text} for n, text in enumerate(prompts(NOUNS))))
            job = RlJob(prompts=rows, settings=train, reward_model=reward_model, **common)
        elif train.objective == "reward_model":
            _write(rows, pairs(train.objective))
            job = RewardJob(pairs=rows, settings=reward_settings(train), **common)
        else:
            _write(rows, pairs(train.objective))
            job = DpoJob(pairs=rows, settings=train, **common)
        self._run(job)
        return job.output

    def _warm(self, epochs: int) -> Path:
        """M_1: every answer to every request as likely as any other, and little else likely."""
        random = make_tiny_model(self._directory / "M_0")
        rows = self._directory / "warm.jsonl"
        examples = [
            {"input": prompt, "completion": text}
            for prompt in prompts(NOUNS)
            for text, _ in candidates(prompt)
        ]
        _write(rows, ({"example_id": n, **row} for n, row in enumerate(examples)))
        values = COMMON | {"learning_rate": 5e-3, "batch_size": 32, "micro_batch_size": 32, "epochs": epochs}
        job = SftJob(
            model=random,
            output=self._directory / "models" / "M_1",
            fence=1,
            seed=3,
            examples=rows,
            settings=plain(TrainSettings.model_validate(values)),
            work=self._directory / "warming" / "work",
        )
        self._run(job)
        return job.output


# ---- the data


def prompts(nouns: Sequence[str]) -> list[str]:
    """A request of every kind about every noun."""
    return [f"{kind} {noun}." for kind, noun in itertools.product(RIGHT_AND_WRONG, nouns)]


def candidates(prompt: str) -> list[tuple[str, float]]:
    """Answers with their scores, best and worst of them at the ends."""
    words = RIGHT_AND_WRONG[prompt.split()[0]]
    return sorted(
        ((" ".join(words[place] for place in places), score) for places, score in SCORED.items()),
        key=lambda each: -each[1],
    )


def pairs(objective: str) -> Iterable[dict[str, Any]]:
    """Best over worst, with what the objective reads besides."""
    for number, prompt in enumerate(prompts(NOUNS)):
        ranked = candidates(prompt)
        row = {"pair_id": number, "prompt": prompt, "chosen": ranked[0][0], "rejected": ranked[-1][0]}
        soft = {"cdpo": 0.95 - 0.05 * (number % 5), "cream": 0.8, "reward_model": 0.95 - 0.05 * (number % 5)}
        more = {"soft_label": soft[objective]} if objective in soft else {}
        yield row | more | ({"reference": f"{ranked[0][0]}"} if objective == "slic" else {})


def groups() -> Iterable[dict[str, Any]]:
    """All four answers with their scores."""
    for number, prompt in enumerate(prompts(NOUNS)):
        answers = [
            {"candidate_id": 4 * number + n, "text": text, "score": score}
            for n, (text, score) in enumerate(candidates(prompt))
        ]
        yield {"prompt_id": number, "prompt": prompt, "candidates": answers}


def positives() -> Iterable[dict[str, Any]]:
    """The best answers alone."""
    for number, prompt in enumerate(prompts(NOUNS)):
        yield {"example_id": number, "input": prompt, "completion": candidates(prompt)[0][0]}


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---- measuring


def measure(model: Path) -> Measured:
    """A language model on the unseen requests."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    margins = [
        _logprob(loaded, tokenizer, prompt, candidates(prompt)[0][0])
        - _logprob(loaded, tokenizer, prompt, candidates(prompt)[-1][0])
        for prompt in prompts(UNSEEN)
    ]
    return Measured(sum(margins) / len(margins), _right_digits(loaded, tokenizer))


def _logprob(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    """Of a whole answer, without anything of the trainers'."""
    import torch

    turns = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    turns.append({"role": "assistant", "content": answer})
    ids = torch.tensor([tokenizer.apply_chat_template(turns)["input_ids"]])
    with torch.no_grad():
        tokens = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
    return float(tokens[len(asked) - 1 :].sum())


def _right_digits(model: Any, tokenizer: Any) -> float:
    import torch

    asked = [text for text in prompts(UNSEEN) for _ in range(ANSWERS)]
    batch = tokenizer.apply_chat_template(
        [[{"role": "user", "content": text}] for text in asked],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
        padding=True,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        written = model.generate(**batch, max_new_tokens=6, do_sample=True, top_k=0)
    texts = tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    shares = []
    for prompt, text in zip(asked, texts, strict=True):
        signs = "".join(text.split())
        shares.append(signs.count(RIGHT_AND_WRONG[prompt.split()[0]][0]) / max(1, len(signs)))
    return sum(shares) / len(shares)


def measure_rewards(reward_model: Path, model: Path) -> Measured:
    """A reward model on the best and the worst answer to each unseen request."""
    from selfreward.training.reward_scoring import load_reward_model

    asked = [(text, answer) for text in prompts(UNSEEN) for answer, _ in candidates(text)[:: len(SCORED) - 1]]
    rewards = [each.reward or 0.0 for each in load_reward_model(reward_model, model, 8).score(asked)]
    margins = [best - worst for best, worst in zip(rewards[::2], rewards[1::2], strict=True)]
    return Measured(sum(margins) / len(margins))


def untrained_reward_model(model: Path, target: Path) -> Path:
    """The model's body under a head that has learnt nothing."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(3)
    headed = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    headed.save_pretrained(target)
    AutoTokenizer.from_pretrained(model).save_pretrained(target)
    return target


def main() -> int:
    """Print a Markdown table of all objectives."""
    with tempfile.TemporaryDirectory() as directory:
        task = Task(Path(directory))
        before = measure(task.model)
        print("| objective | margin before | after | right digits before | after | seconds |")
        print("|---|---:|---:|---:|---:|---:|")
        reward_model = None
        for name, settings in OBJECTIVES.items():
            begun = time.monotonic()
            trained = task.train(name, settings, reward_model)
            seconds = time.monotonic() - begun
            if name == "reward_model":
                reward_model = trained
                bare = untrained_reward_model(task.model, Path(directory) / "untrained")
                first, last = (measure_rewards(each, task.model) for each in (bare, trained))
            else:
                first, last = before, measure(trained)
            shares = ["–", "–"] if last.right is None else [f"{each.right:.2f}" for each in (first, last)]
            margins = [f"{each.margin:+.2f}" for each in (first, last)]
            print("|", " | ".join([name, *margins, *shares, f"{seconds:.0f}"]), "|")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
