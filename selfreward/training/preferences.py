"""Training on pairs with losses that TRL lacks, in its trainer: cDPO, CREAM, SLiC. Runs in the child only."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOTrainer

from selfreward.config import TrainSettings
from selfreward.training import losses
from selfreward.training.resuming import ResumableTrainer
from selfreward.training.sequences import Tokens, padded, score
from selfreward.training.trainer import SortedBatches

OWN_COLUMNS = ("soft_label", "reference_ids", "reference_begin")
OWN_INPUTS = ("soft_labels", "targets")


class DpoTrainer(ResumableTrainer, DPOTrainer):  # type: ignore[misc]  # TRL has no types for it
    """TRL's trainer, with less padding: a batch is drawn as ever, then cut into micro-batches by length."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SortedBatches:
        lengths = [
            len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
            for row in self.train_dataset
        ]
        batch_size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return SortedBatches(lengths, batch_size, self.args.data_seed)


class PairCollator:
    """Rows of TRL's prepared dataset as one padded batch: chosen, then rejected, then the references.

    `targets` [pairs] are the rows of the batch that SLiC pulls to: a pair's reference, or its chosen side.
    """

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """The batch, with the reference's log-probabilities where the rows have them."""
        rows = [_side(row, side) for side in ("chosen_ids", "rejected_ids") for row in examples]
        targets = []
        for index, row in enumerate(examples):
            targets.append(len(rows) if row["reference_ids"] else index)
            if row["reference_ids"]:
                rows.append(Tokens(row["reference_ids"], row["reference_begin"]))
        batch = padded(rows, self._padding)
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in examples[0]:
                batch[name] = torch.tensor([row[name] for row in examples])
        soft_labels = torch.tensor([row["soft_label"] for row in examples], dtype=torch.float32)
        return batch | {"soft_labels": soft_labels, "targets": torch.tensor(targets)}


def _side(row: dict[str, Any], side: str) -> Tokens:
    return Tokens(row["prompt_ids"] + row[side], len(row["prompt_ids"]))


class OwnLossTrainer(DpoTrainer, ABC):
    """What the losses have in common: the log-probabilities of a batch of PairCollator, and the figures."""

    own: TrainSettings
    """The run's settings; set once the trainer is built."""

    @abstractmethod
    def losses(self, logps: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Given log P of each row: the pairs' losses, [pairs], and the rewards of both sides, [2·pairs]."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The mean over the pairs."""
        assert not return_outputs, "nothing is evaluated while training"
        options = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = score(model, inputs, **options)
        logps = outputs.log_probs.sum(dim=1)
        pairs, rewards = self.losses(logps, inputs)
        self._tell(logps, rewards.detach())
        loss = pairs.mean()
        return loss + self.router_aux_loss_coef * outputs.aux_loss if self.aux_loss_enabled else loss

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Tensor]) -> Any:
        """TRL's, which would pass on to the model what it does not know."""
        known = {name: value for name, value in inputs.items() if name not in OWN_INPUTS}
        return super().compute_ref_log_probs(model, known)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in OWN_COLUMNS if name not in self._signature_columns]

    def _tell(self, logps: Tensor, rewards: Tensor) -> None:
        """The figures under TRL's names."""
        chosen, rejected = rewards.chunk(2)
        figures = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "logps/chosen": logps[: len(chosen)].detach(),
            "logps/rejected": logps[len(chosen) : 2 * len(chosen)].detach(),
        }
        for name, values in figures.items():
            self._metrics["train"][name].append(values.mean().item())


class SoftDpoTrainer(OwnLossTrainer):
    """cDPO and CREAM: a reward is β times what the log-probability has gained over the reference's."""

    def losses(self, logps: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """DPO with soft labels."""
        reference = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        gains = logps[: len(reference)] - reference
        chosen, rejected = gains.chunk(2)
        beta = self.own.beta
        return losses.soft_dpo(chosen - rejected, inputs["soft_labels"], beta), beta * gains


class SlicTrainer(OwnLossTrainer):
    """SLiC-HF: a reward is the log-probability itself."""

    def losses(self, logps: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The hinge on the sequences' likelihoods, and the pull to the target."""
        slic, pairs = self.own.slic, len(inputs["targets"])
        chosen, rejected, targets = logps[:pairs], logps[pairs : 2 * pairs], logps[inputs["targets"]]
        return losses.slic(chosen, rejected, targets, slic.margin, slic.regulariser), logps[: 2 * pairs]

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """There is no reference model: nothing to run before the training."""
        return dataset
