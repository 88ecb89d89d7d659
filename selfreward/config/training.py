"""Settings of training: what every trainer has, the objectives, SFT and the bootstrap that uses it."""

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


class SlicSettings(Section):
    """SLiC-HF (arXiv 2305.10425): max(0, δ - log P(chosen) + log P(rejected)) - λ·log P(target)."""

    margin: float = Field(default=1.0, gt=0)
    """δ, in nats of the whole response."""
    regulariser: float = Field(default=0.1, ge=0)
    """λ: weight of the pull to the target."""
    target: Literal["chosen", "reference"] = "chosen"
    """What it pulls to: the chosen response, or the prompt's reference answer where there is one."""


class RewardSettings(TrainerSettings):
    """Training a reward model on the pairs: M_t's body with a score for a head (TRL's RewardTrainer)."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate."""
    final_learning_rate: float = Field(default=1e-6, ge=0)
    """Learning rate at the last step."""
    centre: float = Field(default=0.01, ge=0)
    """Weight of the term that keeps rewards around zero."""


class RlSettings(Section):
    """Reinforcement learning of M_t with a KL term to M_t (TRL's RLOO or GRPO)."""

    algorithm: Literal["rloo", "grpo"] = "rloo"
    """`rloo`: REINFORCE with leave-one-out baselines; `grpo`: group-relative advantages."""
    reward: Literal["reward_model", "judge"] = "reward_model"
    """`reward_model`: one that is trained on the iteration's pairs first (distilled RLAIF, RLHF), or the one
    that `judge.reward_model` names; `judge`: M_t's own expected score through the engine (direct RLAIF)."""
    kl: float = Field(default=0.05, ge=0)
    """Weight of the KL divergence to M_t."""
    generations: int = Field(default=4, ge=2)
    """Answers per prompt and step."""
    temperature: float = Field(default=0.9, gt=0)
    """Sampling temperature."""
    top_k: int = Field(default=0, ge=0)
    """Sample from the k likeliest tokens; 0: from all."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest answer in tokens."""
    max_prompts: int = Field(default=0, ge=0)
    """Prompts that are trained on; 0: all of the iteration."""
    clip: float = Field(default=0.2, gt=0)
    """How far the probability ratio may go from 1 in one update."""
    vllm: bool = False
    """Generate with vLLM inside the trainer, on a GPU; else with transformers."""
    engine_memory: float = Field(default=0.3, gt=0, le=1)
    """GPU: share of its memory for the judge's engine (`judge`) and for generation (`vllm`), each."""


class TrainSettings(TrainerSettings):
    """How M_{t+1} is trained, in a child process with TRL: DPO of M_t on its own pairs, or another way."""

    objective: Literal["dpo", "cdpo", "cream", "slic", "rrhf", "sft_positive", "reward_model", "rl"] = "dpo"
    """`dpo` (arXiv 2305.18290, every loss of TRL's by `losses`); `cdpo`: with the pair's soft label; `cream`:
    weighed by the consistency with the previous model's ranking (2410.12735); `slic` (2305.10425); `rrhf`
    (2304.05302) over all candidates; `sft_positive`: the best answers only; `reward_model`: a reward model
    R_t, M_t stays as it is; `rl`: RLAIF (2309.00267) and RLHF (2203.02155)."""
    losses: tuple[str, ...] = Field(default=("sigmoid",), min_length=1)
    """`dpo`: TRL's loss types, added up: sigmoid, ipo, robust, exo_pair, nca_pair, bco_pair, sppo_hard, …;
    ("sigmoid", "sft") with equal weights is IRPO (arXiv 2404.19733)."""
    loss_weights: tuple[float, ...] = ()
    """`dpo`: a weight for each of `losses`; unset: 1 each."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """`dpo`: assumed share of wrong labels, for the losses that know it (robust, exo_pair); `cdpo`: for pairs
    without a soft label."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the reference model."""
    min_pairs: int = Field(default=1, ge=1)
    """Fewer pairs (rrhf: prompts; sft_positive: answers) than this stop the loop: M_t stays as it is."""
    init_from: Literal["current", "bootstrap"] = "current"
    """Which weights training starts from, and which the reference model has: M_t's, or always M_1's."""
    data: Literal["current", "accumulated"] = "current"
    """The pairs of this iteration, or of all the iterations of the run up to it."""
    positive_score: float = Field(default=5.0, ge=0, le=5)
    """`sft_positive`: least mean score of an answer that is trained on."""
    rrhf_weight: float = Field(default=1.0, ge=0)
    """`rrhf`: weight of the ranking loss beside the likelihood of the best answer."""
    slic: SlicSettings = SlicSettings()
    """With objective = "slic"."""
    reward: RewardSettings = RewardSettings()
    """How a reward model is trained."""
    rl: RlSettings = RlSettings()
    """With objective = "rl"."""

    @model_validator(mode="after")
    def _a_weight_for_each_loss(self) -> Self:
        if self.loss_weights and len(self.loss_weights) != len(self.losses):
            raise ValueError(f"{len(self.loss_weights)} loss_weights for {len(self.losses)} losses")
        return self

    @model_validator(mode="after")
    def _exo_knows_of_wrong_labels(self) -> Self:
        if self.objective == "dpo" and "exo_pair" in self.losses and not self.label_smoothing:
            raise ValueError("losses: exo_pair needs label_smoothing above 0; its paper has 0.001")
        return self


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
