"""Reinforcement learning of M_t on what it answers, held to M_t by a KL term. Runs in the child only.

`rloo` is REINFORCE with a leave-one-out baseline (arXiv 2402.14740), `grpo` takes advantages relative to
the group (arXiv 2402.03300); both are TRL's. Of each step's batch of answers every prompt has
`rl.generations`; all of them are written, then rewarded, then learnt from in parts of
`micro_batch_size`, by one optimiser step: the answers are always those of the policy that learns.
"""

from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from trl import GRPOConfig, RLOOConfig, import_utils

from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed
from selfreward.training.jobs import RlJob
from selfreward.training.origin import read_rows
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

if TYPE_CHECKING:
    from selfreward.training.rl_trainers import GrpoTrainer, RlooTrainer


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
    if not _generates_with_vllm(job):
        # TRL imports vLLM wherever it is installed, which takes longer than all else.
        import_utils.is_vllm_available = lambda min_version=None: False
    from selfreward.training.rl_trainers import GrpoTrainer, RlooTrainer

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
    vllm = _generates_with_vllm(job)
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


def _generates_with_vllm(job: RlJob) -> bool:
    return job.settings.rl.vllm and torch.cuda.is_available()
