"""Each loss is what its formula says: against a few lines of numpy, value and direction of the gradient.

What TRL and our trainers compute is asked of the trainers themselves, with a model that gives whatever
log-probabilities a test wants; once for each, also with a real one.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfreward.config import TrainSettings
from selfreward.training.events import EventWriter
from selfreward.training.jobs import DpoJob, RankJob, SftJob, plain
from tests.tiny_model import make_tiny_model

Array = np.ndarray[Any, np.dtype[np.float64]]
BETA, SMOOTHING, MARGIN, REGULARISER, WEIGHT = 0.3, 0.2, 1.5, 0.05, 0.7
SETTINGS = {
    "beta": BETA,
    "batch_size": 4,
    "micro_batch_size": 2,
    "bf16": False,
    "max_length": 128,
    "slic": {"margin": MARGIN, "regulariser": REGULARISER, "target": "reference"},
    "rrhf_weight": WEIGHT,
    "save_minutes": 0,
}
EXAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STEP = 1e-5


def softplus(x: Array) -> Array:
    """-log σ(-x)."""
    return np.logaddexp(0, x)


# ---- the formulas. Rows are responses; `pairs` says which are chosen and rejected, and the rest.


def gains(logps: Array, case: "Case") -> Array:
    """Δ of each pair."""
    change = logps[: 2 * case.pairs] - case.reference
    return change[: case.pairs] - change[case.pairs :]


def dpo(logps: Array, case: "Case") -> float:
    return float(softplus(-BETA * gains(logps, case)).mean())


def hinge(logps: Array, case: "Case") -> float:
    return float(np.maximum(0, 1 - BETA * gains(logps, case)).mean())


def robust(logps: Array, case: "Case") -> float:
    x = BETA * gains(logps, case)
    return float((((1 - SMOOTHING) * softplus(-x) - SMOOTHING * softplus(x)) / (1 - 2 * SMOOTHING)).mean())


def ipo(logps: Array, case: "Case") -> float:
    rates = (logps[: 2 * case.pairs] - case.reference) / case.lengths[: 2 * case.pairs]
    return float(((rates[: case.pairs] - rates[case.pairs :] - 1 / (2 * BETA)) ** 2).mean())


def irpo(logps: Array, case: "Case") -> float:
    """With the weights 1 and 0.5."""
    chosen = slice(0, case.pairs)
    return dpo(logps, case) - 0.5 * float(logps[chosen].sum() / case.lengths[chosen].sum())


def cdpo(logps: Array, case: "Case") -> float:
    x, p = BETA * gains(logps, case), case.labels
    return float((p * softplus(-x) + (1 - p) * softplus(x)).mean())


def slic(logps: Array, case: "Case") -> float:
    chosen, rejected = logps[: case.pairs], logps[case.pairs : 2 * case.pairs]
    hinges = np.maximum(0, MARGIN - chosen + rejected)
    return float((hinges - REGULARISER * logps[case.targets]).mean())


def rrhf(logps: Array, case: "Case") -> float:
    total, begin = 0.0, 0
    for size in case.sizes:
        likelihoods, lengths, scores = (
            each[begin : begin + size] for each in (logps, case.lengths, case.scores)
        )
        rates = likelihoods / lengths
        for i in range(size):
            for j in range(size):
                if scores[i] < scores[j]:
                    total += WEIGHT * max(0, rates[i] - rates[j])
        total -= likelihoods[scores.tolist().index(max(scores))]
        begin += size
    return total / len(case.sizes)


# ---- cases


class Case:
    """Responses with unequal lengths, the log-probabilities of their tokens, and all that a loss may ask."""

    def __init__(self, seed: int, pairs: int, sizes: list[int], ties: bool) -> None:
        random = np.random.default_rng(seed)
        self.pairs, self.sizes = pairs, sizes
        references = int(random.integers(0, pairs + 1))
        rows = max(2 * pairs + references, sum(sizes))
        self.prompts = random.integers(1, 4, rows)
        self.lengths = random.integers(1, 7, rows).astype(float)
        if ties:
            self.lengths[:] = self.lengths[0]
        self.tokens = [
            -2 * np.ones(int(n)) if ties else random.uniform(-6, -0.01, int(n)) for n in self.lengths
        ]
        self.reference = random.uniform(-20, -1, 2 * pairs)
        self.labels = random.uniform(0, 1, pairs)
        with_reference = random.permutation(pairs)[:references]
        self.targets = np.arange(pairs)
        self.targets[with_reference] = 2 * pairs + np.arange(references)
        self.scores = random.integers(0, 2 if ties else 5, sum(sizes)).astype(float)

    @property
    def logps(self) -> Array:
        return np.array([row.sum() for row in self.tokens])

    def rows(self, kind: str) -> int:
        return sum(self.sizes) if kind == "rrhf" else max(2 * self.pairs, int(self.targets.max()) + 1)

    def inputs(self, kind: str) -> tuple[dict[str, Any], Any]:
        """A padded batch, and the log-probabilities of its tokens as the head gives them."""
        import torch

        from selfreward.training.sequences import Tokens, padded

        rows = self.rows(kind) if kind in ("slic", "rrhf") else 2 * self.pairs
        batch: dict[str, Any] = padded(
            [
                Tokens([5] * int(p + n), int(p))
                for p, n in zip(self.prompts[:rows], self.lengths, strict=False)
            ],
            padding=0,
        )
        log_probs = torch.zeros(rows, batch["input_ids"].shape[1] - 1, dtype=torch.float64)
        for row in range(rows):
            begin = int(self.prompts[row]) - 1
            log_probs[row, begin : begin + len(self.tokens[row])] = torch.tensor(self.tokens[row])
        batch["ref_chosen_logps"] = torch.tensor(self.reference[: self.pairs])
        batch["ref_rejected_logps"] = torch.tensor(self.reference[self.pairs :])
        batch["soft_labels"], batch["targets"] = torch.tensor(self.labels), torch.tensor(self.targets)
        batch["scores"], batch["sizes"] = torch.tensor(self.scores), torch.tensor(self.sizes)
        own = {
            "slic": ("soft_labels", "targets"),
            "cdpo": ("soft_labels", "targets"),
            "rrhf": ("scores", "sizes"),
        }
        dropped = {"soft_labels", "targets", "scores", "sizes"} - set(own.get(kind, ()))
        return {
            name: value for name, value in batch.items() if name not in dropped
        }, log_probs.requires_grad_()


def cases() -> st.SearchStrategy[Case]:
    sizes = st.lists(st.integers(2, 5), min_size=1, max_size=3)
    return st.builds(Case, st.integers(0, 2**32 - 1), st.integers(1, 4), sizes, st.booleans())


class Scripted:
    """In a model's place: it gives the log-probabilities it was made with."""

    def __init__(self, log_probs: Any) -> None:
        self.log_probs = log_probs

    def __call__(self, **_: Any) -> Any:
        import torch

        zeros = torch.zeros_like(self.log_probs)
        return SimpleNamespace(
            log_probs=self.log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), aux_loss=None
        )


FORMULAS: dict[str, Callable[[Array, Case], float]] = {
    "dpo": dpo,
    "hinge": hinge,
    "robust": robust,
    "ipo": ipo,
    "irpo": irpo,
    "cdpo": cdpo,
    "slic": slic,
    "rrhf": rrhf,
}
LOSSES: dict[str, dict[str, Any]] = {
    "dpo": {},
    "hinge": {"losses": ("hinge",)},
    "robust": {"losses": ("robust",), "label_smoothing": SMOOTHING},
    "ipo": {"losses": ("ipo",)},
    "irpo": {"losses": ("sigmoid", "sft"), "loss_weights": (1.0, 0.5)},
    "cdpo": {"objective": "cdpo", "label_smoothing": SMOOTHING},
    "slic": {"objective": "slic"},
}


# ---- trainers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "M_t")


PAIRS = [
    {
        "pair_id": 1,
        "prompt": "Name a fruit.",
        "chosen": "Apple",
        "rejected": "A stone is none",
        "soft_label": 0.8,
    },
    {"pair_id": 2, "prompt": "Name three uses of a clip.", "chosen": "yes yes", "rejected": "no"},
]
REFERENCES = [{**PAIRS[0], "reference": "Water boils sooner."}, PAIRS[1]]
GROUPS = [
    {
        "prompt_id": 1,
        "prompt": "Name a fruit.",
        "candidates": [
            {"candidate_id": n, "text": text, "score": score}
            for n, (text, score) in enumerate([("Apple", 5.0), ("A stone is none", 1.0), ("Pear", 5.0)])
        ],
    },
    {
        "prompt_id": 2,
        "prompt": "Name three uses of a clip.",
        "candidates": [
            {"candidate_id": 8, "text": "no", "score": 2},
            {"candidate_id": 9, "text": "yes", "score": 3},
        ],
    },
]


def common(root: Path, model: Path) -> dict[str, Any]:
    return {"model": model, "output": root / "out", "fence": 1, "work": root / "work", "seed": 3}


@pytest.fixture(scope="module")
def build(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The trainer of a loss, made once; its rows are PAIRS or GROUPS."""
    from selfreward.training import dpo as pairs
    from selfreward.training import rank
    from selfreward.training.trainer import load_model, load_text_parts

    made: dict[str, Any] = {}

    def make(kind: str) -> Any:
        root = tmp_path_factory.mktemp(kind)
        events = EventWriter(root / "events.jsonl")
        config, tokenizer = load_text_parts(tiny)
        values = TrainSettings.model_validate(SETTINGS | LOSSES.get(kind, {"objective": "rrhf"}))
        if kind == "rrhf":
            job = RankJob(groups=root, settings=values, **common(root, tiny))
            groups = [rank.tokenised_group(tokenizer, row) for row in GROUPS]
            return rank.build_trainer(job, load_model(job, config, events), tokenizer, groups, events)
        work = DpoJob(pairs=root, settings=values, **common(root, tiny))
        rows = REFERENCES if kind == "slic" else PAIRS
        return pairs.build_trainer(work, load_model(work, config, events), tokenizer, rows, events)

    return lambda kind: made.setdefault(kind, None) or made.update({kind: make(kind)}) or made[kind]


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", FORMULAS)
@EXAMPLES
@given(case=cases())
def test_a_loss_and_its_gradient_are_those_of_the_formula(
    kind: str, case: Case, build: Callable[..., Any]
) -> None:
    inputs, log_probs = case.inputs(kind)
    loss = build(kind).compute_loss(Scripted(log_probs), inputs)
    formula, logps = FORMULAS[kind], case.logps
    assert loss.item() == pytest.approx(formula(logps, case), rel=1e-5, abs=1e-5)
    loss.backward()
    for row in range(case.rows(kind)):
        up, down = (formula(logps + sign * STEP * np.eye(len(logps))[row], case) for sign in (1, -1))
        here = formula(logps, case)
        one_sided = ((up - here) / STEP, (here - down) / STEP)
        found = 0.0
        if row < len(log_probs):
            of_response = inputs["completion_mask"][row, 1:].bool()
            found = log_probs.grad[row, of_response].mean().item()
        assert min(one_sided) - 1e-4 <= found <= max(one_sided) + 1e-4  # at a kink either side will do


def test_the_pull_of_each_loss_on_a_pair_is_up_for_chosen_and_down_for_rejected(
    build: Callable[..., Any],
) -> None:
    """At the reference itself, where a training begins; reversed when a soft label says so."""
    for kind, label in [*((kind, 0.9) for kind in LOSSES), ("cdpo", 0.1)]:
        case = Case(4, 1, [2], ties=True)
        case.reference, case.labels = case.logps[:2].copy(), np.array([label])
        inputs, log_probs = case.inputs(kind)
        build(kind).compute_loss(Scripted(log_probs), inputs).backward()
        chosen, rejected = log_probs.grad.sum(1)[:2].tolist()
        assert (chosen < 0 < rejected) if label > 0.5 else (rejected < 0 < chosen), kind


# ---- with a real model


def response_logps(model: Path, prompt: str, response: str) -> Array:
    """log P of each token of a response, its end among them: logits of transformers, the rest in numpy."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    turns.append({"role": "assistant", "content": response})
    ids = tokenizer.apply_chat_template(turns)["input_ids"]
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        logits = loaded(torch.tensor([ids])).logits[0].double().numpy()
    normalised = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return np.array([normalised[place - 1, ids[place]] for place in range(len(asked), len(ids))])


def real_case(model: Path, kind: str) -> Case:
    """What the trainers' own rows come to."""
    case = Case(1, 2, [3, 2], ties=False)
    rows = REFERENCES if kind == "slic" else PAIRS
    asked = [(row["prompt"], row[side]) for side in ("chosen", "rejected") for row in rows]
    asked += [(row["prompt"], row["reference"]) for row in rows if "reference" in row]
    if kind == "rrhf":
        asked = [(row["prompt"], each["text"]) for row in GROUPS for each in row["candidates"]]  # type: ignore[attr-defined,misc]
        case.scores = np.array([5.0, 1, 5, 2, 3])
    case.tokens = [response_logps(model, prompt, response) for prompt, response in asked]  # type: ignore[arg-type]
    case.lengths = np.array([float(len(row)) for row in case.tokens])
    case.reference = case.logps[:4]
    case.labels = np.array([0.8, 1 - SMOOTHING])
    case.targets = np.array([4, 1])
    return case


@pytest.mark.parametrize("kind", FORMULAS)
def test_the_trainers_own_batches_give_the_formulas_loss(
    kind: str, tiny: Path, build: Callable[..., Any]
) -> None:
    trainer = build(kind)
    [batch] = list(trainer.get_train_dataloader())
    trainer.model.eval()
    case = real_case(tiny, kind)
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)).item()
    assert loss == pytest.approx(FORMULAS[kind](case.logps, case), rel=1e-4, abs=1e-5)


def test_groups_of_any_size_count_alike_however_a_batch_is_cut(tiny: Path, tmp_path: Path) -> None:
    """The first step's loss and gradient are those of the whole batch."""
    from selfreward.training import rank
    from selfreward.training.trainer import load_model, load_text_parts

    told = []
    config, tokenizer = load_text_parts(tiny)
    for size in (2, 1):
        values = TrainSettings.model_validate(SETTINGS | {"batch_size": 2, "micro_batch_size": size})
        job = RankJob(groups=tmp_path, settings=values, **common(tmp_path, tiny))
        path = tmp_path / f"{size}.jsonl"
        groups = [rank.tokenised_group(tokenizer, row) for row in GROUPS]
        events = EventWriter(path)
        rank.build_trainer(job, load_model(job, config, events), tokenizer, groups, events).train()
        told.append(
            [json.loads(line)["values"] for line in path.read_text().splitlines() if "metric" in line]
        )
    whole, cut = (steps[0] for steps in told)
    for name in ("loss", "grad_norm", "rewards/margins", "rewards/accuracies"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-4), name


def test_positive_answers_are_learnt_as_the_mean_over_their_tokens(tiny: Path, tmp_path: Path) -> None:
    """sft_positive: prompts count for nothing, and long answers for more than short ones."""
    from selfreward.training import sft
    from selfreward.training.trainer import load_model, load_text_parts

    rows = [
        {"example_id": n, "input": row["prompt"], "completion": row["chosen"]} for n, row in enumerate(PAIRS)
    ]
    values = plain(TrainSettings.model_validate(SETTINGS | {"objective": "sft_positive"}))
    job = SftJob(section="train", examples=tmp_path, settings=values, **common(tmp_path, tiny))
    config, tokenizer = load_text_parts(tiny)
    events = EventWriter(tmp_path / "events.jsonl")
    trainer = sft.build_trainer(job, load_model(job, config, events), tokenizer, rows, events)
    [batch] = list(trainer.get_train_dataloader())
    tokens = np.concatenate([response_logps(tiny, str(row["input"]), str(row["completion"])) for row in rows])
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)).item()
    assert loss == pytest.approx(-tokens.mean(), rel=1e-4)
