"""Reinforcement learning of M_t on what it answers, held to M_t by a KL term. Runs in the child only.

`rloo` is REINFORCE with a leave-one-out baseline (arXiv 2402.14740), `grpo` takes advantages relative to
the group (arXiv 2402.03300); both are TRL's. Of each step's batch of answers every prompt has
`rl.generations`; all of them are written, then rewarded, then learnt from in parts of
`micro_batch_size`, by one optimiser step: the answers are always those of the policy that learns.
"""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import cycle, islice
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import RlJob
from selfreward.training.origin import read_rows
from selfreward.training.resuming import ResumableTrainer
from selfreward.training.rewards import Reward, reward_of
from selfreward.training.trainer import (
    Stream,
    adapter,
    common_arguments,
    load_model,
    load_text_parts,
    longest,
    publish_trained,
)

NO_DISTRIBUTION = "probability tensor contains"
"""How torch refuses to sample where the logits are not finite."""


def train_rl(job: RlJob, events: EventWriter) -> str:
    """Make M_{t+1} from M_t and publish it as `job.output`; returns its digest.

    Raises JobFailed when no prompt fits, no answer is given a reward, the loss, the gradient or the
    policy is not finite, the judge's engine is gone (`engine`), or the disk is too small for the result.
    """
    config, tokenizer = load_text_parts(job.model)
    prompts = _fitting_prompts(job, tokenizer, longest(config, job.settings), events)
    trainer = make_trainer(job, config, tokenizer, prompts, reward_of(job), events)
    origin = job.origin(prompts)
    trainer.train_on(job, origin, events)
    return publish_trained(job, trainer.model, config, [job.origin(), origin])


def _fitting_prompts(
    job: RlJob, tokenizer: PreTrainedTokenizerBase, limit: int, events: EventWriter
) -> list[dict[str, Any]]:
    """The prompts that leave room for an answer of `rl.max_tokens`. The others are reported, never cut."""
    prompts = list(read_rows(job.prompts))
    room = limit - job.settings.rl.max_tokens
    too_long = {row["prompt_id"] for row in prompts if _length(tokenizer, row) > room}
    if too_long:
        events.emit("too_long", prompt_ids=sorted(too_long))
    fitting = [row for row in prompts if row["prompt_id"] not in too_long]
    if not fitting:
        raise JobFailed(
            "too_few_examples",
            f"none of {len(prompts)} prompts leaves room for an answer: prompt and answer may have {limit} "
            f"tokens together, and train.rl.max_tokens is {job.settings.rl.max_tokens}",
            "Lower train.rl.max_tokens, or raise train.max_length if the model's context allows it.",
        )
    return fitting


def _conversation(row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["prompt"]}]


def _length(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any]) -> int:
    """Tokens up to where the answer begins."""
    asked = tokenizer.apply_chat_template(_conversation(row), add_generation_prompt=True, return_dict=True)
    return len(asked["input_ids"])


def make_trainer(
    job: RlJob,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[dict[str, Any]],
    reward: Reward,
    events: EventWriter,
) -> "RlooTrainer | GrpoTrainer":
    """TRL's trainer of `rl.algorithm`; its reference model is M_t, untouched."""
    grpo = job.settings.rl.algorithm == "grpo"
    policy = load_model(job, config, events)
    return (GrpoTrainer if grpo else RlooTrainer)(
        model=policy,
        reward_funcs=reward,
        args=(GRPOConfig if grpo else RLOOConfig)(**_arguments(job, config, events)),
        train_dataset=Dataset.from_list([{"prompt": _conversation(row)} for row in prompts]),
        processing_class=tokenizer,
        callbacks=[Stream(events, job.section, prompts=len(prompts))],
        peft_config=adapter(job.settings.lora),
    )


def _arguments(job: RlJob, config: PreTrainedConfig, events: EventWriter) -> dict[str, Any]:
    """`batch_size` and `micro_batch_size` count answers."""
    common, rl = common_arguments(job), job.settings.rl
    del common["max_length"]  # TRL cuts nothing here
    vllm = rl.vllm and torch.cuda.is_available()
    if rl.vllm and not vllm:
        events.emit("note", message="train.rl.vllm takes a GPU: the answers are written by transformers")
    return {
        **common,
        "beta": rl.kl,
        "epsilon": rl.clip,
        "num_generations": rl.generations,
        "max_completion_length": rl.max_tokens,
        "temperature": rl.temperature,
        "top_k": rl.top_k,
        "disable_dropout": job.settings.dropout == 0,
        "use_vllm": vllm,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": rl.engine_memory,
        "vllm_max_model_length": longest(config, job.settings),
    }


class PromptBatches(Sampler[int]):  # type: ignore[misc]  # torch has no types for it
    """The order that TRL wants: batches of prompts, each prompt `generations` times, each batch `repeats`
    times in a row.

    Every prompt comes once a pass, in random order. TRL's own sampler drops what does not fill a batch,
    which with fewer prompts than that is all of them; here the last one is filled up from the first ones.
    """

    def __init__(self, prompts: int, per_batch: int, generations: int, repeats: int, seed: int) -> None:
        self._prompts, self._per_batch = prompts, per_batch
        self._generations, self._repeats = generations, repeats
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Told before each pass: a training that goes on must draw what it would have drawn."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches * self._per_batch * self._generations * self._repeats

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(self._prompts, generator=generator).tolist()
        filled = list(islice(cycle(order), self._batches * self._per_batch))
        for start in range(0, len(filled), self._per_batch):
            batch = filled[start : start + self._per_batch]
            yield from [index for index in batch for _ in range(self._generations)] * self._repeats

    @property
    def _batches(self) -> int:
        return math.ceil(self._prompts / self._per_batch)


class _OwnAnswers(ResumableTrainer):
    """What both algorithms do differently from TRL's trainers."""

    def _get_train_sampler(self, dataset: Any = None) -> PromptBatches:
        args = self.args
        return PromptBatches(
            prompts=len(self.train_dataset if dataset is None else dataset),
            per_batch=args.generation_batch_size // args.num_generations,
            generations=args.num_generations,
            repeats=args.steps_per_generation,
            seed=args.data_seed,
        )

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's, with the model as it will be served: without dropout, and with the cache of keys and
        values that training with gradient checkpointing does without."""
        if self.use_vllm:
            return super()._generate_single_turn(*args, **kwargs)
        self.model.eval()
        try:
            with self.accelerator.autocast() if torch.cuda.is_available() else nullcontext():
                return super()._generate_single_turn(*args, **kwargs)
        except RuntimeError as error:
            if NO_DISTRIBUTION not in str(error):
                raise
            raise JobFailed(
                "non_finite",
                f"the model's probabilities are not finite at step {self.state.global_step + 1}",
                "Lower train.learning_rate, or raise train.rl.kl; with bfloat16, try train.bf16 = false.",
            ) from error
        finally:
            self.model.train()


class RlooTrainer(_OwnAnswers, RLOOTrainer):  # type: ignore[misc]  # TRL has no types for it
    """REINFORCE; the baseline of an answer is the mean reward of the prompt's other answers."""


class GrpoTrainer(_OwnAnswers, GRPOTrainer):  # type: ignore[misc]
    """Advantages in standard deviations of the rewards of the prompt's answers."""
