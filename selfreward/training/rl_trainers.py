"""TRL's RLOO and GRPO with every prompt in each pass, answers as the model is served, and saved states.

Imported by `rl` when it is settled whether vLLM is. Runs in the child only.
"""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import cycle, islice
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import GRPOTrainer, RLOOTrainer

from selfreward.training.failures import JobFailed
from selfreward.training.resuming import ResumableTrainer

NO_DISTRIBUTION = "probability tensor contains"
"""How torch refuses to sample where the logits are not finite."""


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
