"""Settings of training: what every trainer has, SFT and the bootstrap that uses it, DPO."""

from typing import Literal, Self

from pydantic import Field, model_validator

from selfreward.config.section import Scalar, Section


class LoraSettings(Section):
    """Low-rank adapters instead of training every weight; merged into the checkpoint when done."""

    enabled: bool = False
    """Train adapters only."""
    r: int = Field(default=16, ge=1)
    """Rank."""
    alpha: int = Field(default=32, ge=1)
    """Scale."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""
    target_modules: str = "all-linear"
    """Which layers get adapters: `all-linear`, or names with commas between them."""


class TrainerSettings(Section):
    """What every training has: rates, batches, length, precision."""

    type: Literal["trl", "fake"] = "trl"
    """`trl`, or `fake`: copies the model with a mark, for tests of everything around the training."""
    fake_args: dict[str, Scalar] = Field(default_factory=dict)
    """What the fake trainer does besides: see selfreward/training/fake.py."""
    save_minutes: float = Field(default=15, ge=0)
    """Save the training's state this often, to go on from after a stop; 0 never. Gone when it is done."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate."""
    final_learning_rate: float = Field(default=1e-7, ge=0)
    """Learning rate at the last step."""
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    """How the rate goes from peak to final."""
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps spent rising to the peak."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs or examples per optimiser step."""
    micro_batch_size: int = Field(default=4, ge=1)
    """Pairs or examples held in memory at once; gradients are accumulated up to batch_size."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the data."""
    max_length: int = Field(default=2048, ge=64)
    """Longest prompt + response in tokens. What is longer is dropped before and counted, never cut."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the model while training, where its architecture has any."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient clipping."""
    bf16: bool | None = None
    """Compute in bfloat16. Unset: yes where the GPU supports it; on CPU, yes with AMX or AVX-512 bf16."""
    gradient_checkpointing: bool = False
    """Trade a third more compute for memory."""
    lora: LoraSettings = LoraSettings()
    """Adapter settings."""
    report_to: tuple[str, ...] = ()
    """Trackers passed on to the trainer: tensorboard, wandb, mlflow, trackio."""

    @model_validator(mode="after")
    def _rates_fall(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate} is above learning_rate {self.learning_rate}"
            )
        return self

    @model_validator(mode="after")
    def _micro_batch_divides_batch(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self


class TrainSettings(TrainerSettings):
    """DPO of M_t on its own pairs (arXiv 2305.18290), in a child process with TRL."""

    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference model M_t."""
    min_pairs: int = Field(default=1, ge=1)
    """Fewer pairs than this stop the loop: M_t stays and nothing is trained."""


class SftSettings(TrainerSettings):
    """SFT of M_0 in a child process with TRL; the loss is on the replies only."""

    learning_rate: float = Field(default=5.5e-6, gt=0)
    """Peak learning rate."""
    final_learning_rate: float = Field(default=1.1e-6, ge=0)
    """Learning rate at the last step."""


class BootstrapSettings(Section):
    """Iteration 0: M_0 → M_1 by SFT on instruction (IFT) and judging (EFT) examples (arXiv 2401.10020)."""

    mode: Literal["none", "sft"] = "none"
    """`none`: `model` is M_1 already, an instruct model that can judge; `sft`: it is M_0 and is trained."""
    eft: Literal["judged", "seeds", "none"] = "judged"
    """`judged`: the SFT baseline judges ranked replies; what agrees with people is kept, as in the paper.
    `seeds`: the seeds' own judgements, made from ranks where they bring none. `none`: no judging examples."""
    justification: Literal["text", "word", "none"] = "text"
    """What a judgement begins with: `text`, as in the paper; `word`: Yes or No, for very small models, which
    learn no more in minutes; `none`: the score alone."""
    samples: int = Field(default=3, ge=1)
    """`judged`: tries the baseline has at a prompt's replies; the first that agrees with people is kept."""
    max_common_share: float = Field(default=0.4, gt=0, le=1)
    """`judged`: examples of one score are thinned out until they are at most this share."""
    max_ift: int = Field(default=3200, ge=0)
    """Most instruction examples."""
    max_eft: int = Field(default=1775, ge=0)
    """Most judging examples."""
    sft: SftSettings = SftSettings()
    """How to train."""
