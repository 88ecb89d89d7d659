"""Settings of what M_t does before training: the engine, the seeds, writing, answering, judging, pairing."""

from typing import Literal

from pydantic import Field

from selfreward.config.section import Scalar, Section


class EndpointSettings(Section):
    """A model that somebody else serves behind an OpenAI-compatible interface."""

    url: str = ""
    """Base URL, without /v1. Unset: the checkpoint's own engine is asked."""
    model: str = ""
    """The model's name there."""
    api_key_env: str = ""
    """Environment variable that holds the endpoint's key."""


class EngineSettings(Section):
    """The inference server that writes, answers and judges."""

    type: Literal["vllm", "fake"] = "vllm"
    """`vllm`, or `fake`: scripted replies from a real server, for tests of everything around the model."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the served weights."""
    max_model_len: int | None = Field(default=None, ge=64)
    """Longest prompt + reply in tokens. Unset: the model's own limit."""
    memory: float = Field(default=0.9, gt=0, le=1)
    """GPU: share of its memory that vLLM may use."""
    cpu_kv_cache_gib: int = Field(default=4, ge=1)
    """CPU build: GiB set aside for the key-value cache."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs over which one copy of the model is split."""
    data_parallel_size: int = Field(default=1, ge=1)
    """Copies of the model that answer side by side."""
    max_num_seqs: int = Field(default=128, ge=1)
    """Sequences that the server works on at once."""
    concurrency: int = Field(default=64, ge=1)
    """Requests kept in flight by each stage."""
    enforce_eager: bool | None = None
    """Skip compilation: starts sooner, generates somewhat slower. Unset: eager on CPU, compiled on GPU."""
    port: int = Field(default=0, ge=0, le=65535)
    """Loopback port to serve on; 0 takes a free one."""
    start_timeout_s: float = Field(default=600, gt=0)
    """How long the server may take until it is healthy."""
    request_timeout_s: float = Field(default=600, gt=0)
    """How long one request may take."""
    stall_timeout_s: float = Field(default=300, gt=0)
    """A server that has requests and makes no token for this long is hanging, and is started again."""
    extra_args: dict[str, Scalar] = Field(default_factory=dict)
    """Any further vLLM argument, without the dashes: {"quantization" = "fp8"}; true gives a bare flag."""


class SeedSettings(Section):
    """The human-written instructions that everything starts from."""

    files: tuple[str, ...] = ("builtin", "builtin:ranked")
    """`builtin`, `builtin:ranked`, `hub:OpenAssistant/oasst1`, files: JSONL, OpenAssistant trees, Parquet."""
    held_out: float = Field(default=0.33, ge=0, le=1)
    """Share of the seeds with ranked replies that is kept for measuring, where a file does not say which."""


class SamplingSettings(Section):
    """How replies are drawn from the model."""

    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling: smallest set of tokens with this much probability. Below 1 it is slow on CPUs."""
    top_k: int = Field(default=0, ge=0)
    """Sample from the k likeliest tokens; 0: from all. On CPUs a cheap stand-in for top_p."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest reply in tokens; a reply that reaches it is marked as cut off."""


class SelfInstructSettings(SamplingSettings):
    """Writing new prompts (Self-Instruct, arXiv 2212.10560)."""

    temperature: float = Field(default=0.6, ge=0)
    """Sampling temperature of the prompt writer."""
    max_tokens: int = Field(default=192, ge=1)
    """Longest new prompt in tokens; one that reaches it is rejected as cut off."""
    target: int = Field(default=1000, ge=1)
    """Accepted new prompts per iteration."""
    max_attempts: int = Field(default=10000, ge=1)
    """Give up after this many written prompts, accepted or not, and go on with what there is."""
    per_request: int = Field(default=1, ge=1)
    """Prompts sampled from one set of demonstrations in one request."""
    seed_demonstrations: int = Field(default=6, ge=1)
    """Demonstrations drawn from the seeds."""
    model_demonstrations: int = Field(default=2, ge=0)
    """Demonstrations drawn from prompts the model wrote before; seeds stand in while there are none."""
    max_rouge_l: float = Field(default=0.7, gt=0, le=1)
    """Reject a prompt whose ROUGE-L F with a seed or an accepted prompt is above this."""
    min_words: int = Field(default=4, ge=1)
    """Reject shorter prompts."""
    max_words: int = Field(default=150, ge=1)
    """Reject longer prompts."""
    forbidden_words: tuple[str, ...] = (
        "image",
        "images",
        "graph",
        "graphs",
        "picture",
        "pictures",
        "file",
        "files",
        "map",
        "maps",
        "draw",
        "plot",
        "go to",
    )
    """Reject prompts with one of these words: a text model cannot follow them."""
    mode: Literal["completion", "chat"] = "completion"
    """`completion`: the model goes on with a list, as in the paper; `chat`: it is asked for one more task."""
    template: str | None = None
    """Template of the request, in prompts/ or a path from the run's directory. Unset: the mode's own."""
    endpoint: EndpointSettings = EndpointSettings()
    """Another model that writes the prompts, as the paper's fixed prompt generator; with mode = "chat"."""


class SampleSettings(SamplingSettings):
    """Answering each prompt N times."""

    candidates: int = Field(default=4, ge=2)
    """N: answers per prompt."""


class PairwiseSettings(Section):
    """Comparing two candidates at once, each two in both orders (RLAIF, arXiv 2309.00267)."""

    opponents: Literal["all", "tournament"] = "all"
    """`all`: every two candidates of a prompt; `tournament`: knock-out, N - 1 comparisons a prompt."""
    strength: Literal["win_rate", "bradley_terry"] = "win_rate"
    """How a candidate's score comes out of its comparisons: 5 times its mean probability of being the
    better one, or 5 times what the strengths fitted to all comparisons of the prompt say of that."""
    reasoning: bool = False
    """Let the judge think in writing before it is asked for "1" or "2"."""
    template: str = "judge_pairwise.jinja"
    """Template of a comparison, in prompts/ or a path from the run's directory."""


class MetaSettings(Section):
    """Judging the judgements (Meta-Rewarding, arXiv 2407.19594): pairs from which the judge learns."""

    enabled: bool = False
    """The model compares its judgements of one answer, in both orders, and learns best over worst."""
    max_pairs: int = Field(default=500, ge=1)
    """Most pairs of judgements per iteration; answers whose judgements differ most come first."""
    max_judgements: int = Field(default=4, ge=2)
    """Judgements of one answer that are compared with each other."""
    last_iteration: int = Field(default=0, ge=0)
    """The last iteration with meta-judging; 0: every one."""
    template: str = "judge_meta.jinja"
    """Template of a comparison of two judgements, in prompts/ or a path from the run's directory."""

    def applies(self, t: int) -> bool:
        """Whether iteration t has meta-judging."""
        return self.enabled and t > 0 and (not self.last_iteration or t <= self.last_iteration)


class JudgeSettings(SamplingSettings):
    """Judging each answer 0–5 with the additive rubric (arXiv 2401.10020, section 2.2), or otherwise."""

    type: Literal["rubric", "pairwise", "reward_model"] = "rubric"
    """`rubric`: a score for each answer; `pairwise`: two answers at once, both orders, the score is the
    share of wins; `reward_model`: a sequence classifier, 5·σ(reward)."""
    max_tokens: int = Field(default=384, ge=1)
    """Longest judgement in tokens."""
    samples: int = Field(default=3, ge=1)
    """K: judgements per answer, averaged."""
    score: Literal["sampled", "expected", "direct"] = "sampled"
    """`sampled`: the score the judge wrote; `expected`: Σ s·P(s) at the place where it wrote it;
    `direct`: Σ s·P(s) without a justification, one judgement an answer."""
    scale: Literal["points", "yes_no"] = "points"
    """What the template asks for: `points`, a score of 0–5; `yes_no`, Yes (5) or No (0), and with `expected`
    or `direct` 5·P(Yes) / (P(Yes) + P(No)): for very small models, to which numbers say little."""
    guided: bool = False
    """Force the judgement's format (a sentence, then `Score: 0–5`), for models that cannot keep to it."""
    template: str = "judge_rubric.jinja"
    """Template of the rubric, in prompts/ or a path from the run's directory."""
    endpoint: EndpointSettings = EndpointSettings()
    """An independent judge at an endpoint, for `rubric` and `pairwise`."""
    pairwise: PairwiseSettings = PairwiseSettings()
    """With type = "pairwise"."""
    reward_model: str = ""
    """With type = "reward_model": a checkpoint of this run (R_1), a directory or a hub id (org/name)."""
    reward_batch_size: int = Field(default=8, ge=1)
    """With type = "reward_model": answers scored at once."""
    meta: MetaSettings = MetaSettings()
    """The judge learns from comparing its own judgements."""

    @property
    def wanted(self) -> int:
        """Judgements of each response: K, but 1 where asking again would give the same."""
        return 1 if self.score == "direct" or self.type != "rubric" else self.samples


class PairSettings(Section):
    """Drawing preference pairs from the scores."""

    rule: Literal["best_worst", "all_pairs", "length_controlled", "anchored"] = "best_worst"
    """`best_worst`: highest mean score against lowest; `all_pairs`: every two that differ;
    `length_controlled`: the shortest of the good against the longest of the bad; `anchored`: the best against
    an earlier model's answer where that scores lower."""
    min_scores: int = Field(default=1, ge=1)
    """Readable judgements a candidate needs to take part."""
    min_margin: float = Field(default=0.0, ge=0)
    """Least difference of mean scores; a tie never makes a pair."""
    use_truncated: bool = True
    """Let answers that were cut off at max_tokens take part."""
    max_per_prompt: int = Field(default=0, ge=0)
    """`all_pairs`: most pairs of one prompt, the widest margins first; 0: all."""
    length_tolerance: float = Field(default=0.2, ge=0, le=0.5)
    """`length_controlled`: rho of Meta-Rewarding (arXiv 2407.19594), the share of the range of scores, from
    each end, within which length decides; 0 is best_worst with ties broken by length."""
    anchor: Literal["first", "previous"] = "first"
    """`anchored`: whose answers are the rejected ones: M_1's, or those of M_{t-1}."""
    anchors: int = Field(default=1, ge=1)
    """`anchored`: answers per prompt of that earlier model."""
    soft_labels: bool = False
    """Carry the judge's probability that chosen is better into the pair, where it has one."""
    imported_share: float = Field(default=0.0, ge=0, le=1)
    """Share of imported preferences among the pairs: 0 none, 1 nothing else; see `import preferences`."""
    balance_sources: bool = False
    """As many pairs from each source (the model's own, each imported file) as from the smallest."""
