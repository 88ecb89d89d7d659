"""The vocabulary of the system: what a row, a reply and a decision are. Frozen, keyword-only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class StageName(StrEnum):
    """The steps of one iteration. Iteration 0, the bootstrap, has BASELINE and SELECT of its own."""

    BASELINE = "baseline"
    """SFT of M_0 on instruction examples: the SFT baseline, which judges for the paper's EFT."""
    SELF_INSTRUCT = "self_instruct"
    SAMPLE = "sample"
    JUDGE = "judge"
    ANSWER_HELD_OUT = "answer_held_out"
    """M_t answers the held-out prompts."""
    JUDGE_HELD_OUT = "judge_held_out"
    """M_t judges the held-out replies that people have ranked."""
    COMPARE = "compare"
    """M_t compares its held-out answers with those of earlier checkpoints."""
    COMPARE_INDEPENDENT = "compare_independent"
    """The same comparisons by a judge that is not of this run."""
    EVALUATE = "evaluate"
    """Figures with intervals from all of that."""
    MEASURE_BASELINE = "measure_baseline"
    """The SFT baseline judges the held-out replies."""
    SELECT = "select"
    """Which examples M_1 is trained on."""
    JUDGE_PREVIOUS = "judge_previous"
    """M_{t-1} judges M_t's candidates: how far the two agree (CREAM)."""
    ANCHOR = "anchor"
    """An earlier model answers the iteration's prompts, for pairs whose rejected side is its answer."""
    JUDGE_ANCHOR = "judge_anchor"
    """M_t judges those."""
    META_JUDGE = "meta_judge"
    """M_t compares its own judgements (Meta-Rewarding)."""
    PAIR = "pair"
    CHECK = "check"
    """The health gates, before anything is trained."""
    TRAIN_REWARD = "train_reward"
    """A reward model R_t is trained on the pairs."""
    TRAIN = "train"


class Status(StrEnum):
    """Where a stage or an iteration stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    HALTED = "halted"
    FAILED = "failed"


class PromptSource(StrEnum):
    """Where a prompt comes from."""

    SEED = "seed"
    SELF_INSTRUCT = "self_instruct"
    IMPORTED = "imported"
    """Of preferences that a user has imported."""


class PromptStatus(StrEnum):
    """Whether a prompt takes part in the iteration."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class RejectReason(StrEnum):
    """Why a written prompt was turned away (filters of Self-Instruct, arXiv 2212.10560)."""

    EMPTY = "empty"
    CUT_OFF = "cut_off"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    KEYWORD = "keyword"
    BAD_START = "bad_start"
    SIMILAR = "similar"
    SURPLUS = "surplus"
    """Good, but the target number was already reached when it arrived."""


class CandidateStatus(StrEnum):
    """How an answer ended. Only `ok` and `truncated` carry text worth judging."""

    OK = "ok"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    """The prompt does not fit the model's context; no answer was asked for."""
    FAILED = "failed"


class JudgementStatus(StrEnum):
    """How a judgement was read. `score` is NULL unless the status is `read`."""

    READ = "read"
    UNREADABLE = "unreadable"
    OUT_OF_RANGE = "out_of_range"
    TOO_LONG = "too_long"
    """Rubric, prompt and response together do not fit the model's context."""
    FAILED = "failed"


class PairOutcome(StrEnum):
    """What became of a prompt when pairs were drawn."""

    PAIRED = "paired"
    UNSCORED = "unscored"
    """Fewer than two candidates have enough readable judgements."""
    TIE = "tie"
    TWINS = "twins"
    """Best and worst are the same text."""
    BELOW_MARGIN = "below_margin"
    UNANCHORED = "unanchored"
    """The earlier model's answer does not score lower than the best."""
    SURPLUS = "surplus"
    """Left out for the balance of sources."""
    PAIR_TOO_LONG = "pair_too_long"
    """Does not fit `train.max_length`; truncating would eat the response."""


class Split(StrEnum):
    """What a seed may be used for."""

    TRAIN = "train"
    HELD_OUT = "held_out"
    """Only for measuring: never shown, answered or judged in training."""


class ExampleKind(StrEnum):
    """What an example of the bootstrap teaches (arXiv 2401.10020, section 2.1)."""

    IFT = "ift"
    """Instruction fine-tuning: to answer a prompt."""
    EFT = "eft"
    """Evaluation fine-tuning: to judge a reply."""


class DropReason(StrEnum):
    """Why an example of the bootstrap is not trained on."""

    TOO_LONG = "too_long"
    """Longer than `bootstrap.sft.max_length` tokens; cutting would eat the completion."""
    UNREADABLE = "unreadable"
    """The baseline's judgements of this prompt's replies cannot all be read."""
    DISAGREES = "disagrees"
    """The baseline's scores are not in the order in which people ranked the replies."""
    COMMON_SCORE = "common_score"
    """Thinned out: too many examples have this score."""
    SURPLUS = "surplus"
    """More than `bootstrap.max_ift` or `bootstrap.max_eft`."""


class Verdict(StrEnum):
    """Which of two answers a judge prefers, in the order in which it saw them."""

    FIRST = "first"
    SECOND = "second"


class Suite(StrEnum):
    """What an evaluation looked at."""

    JUDGE = "judge"
    """The checkpoint as a judge, against human ranks."""
    ASSISTANT = "assistant"
    """The checkpoint as an assistant; comparisons judged by itself."""
    INDEPENDENT = "assistant_independent"
    """The same comparisons, judged by a judge that is not of this run."""


class Metric(StrEnum):
    """What an evaluation measured. Shares and accuracies are from 0 to 1."""

    READABLE_SHARE = "readable_share"
    PAIRWISE_ACCURACY = "pairwise_accuracy"
    FIVE_BEST = "five_best"
    EXACT_MATCH = "exact_match"
    SPEARMAN = "spearman"
    KENDALL = "kendall"
    TIE_SHARE = "tie_share"
    INJECTION_SHARE = "injection_share"
    AGREEMENT_PREVIOUS = "agreement_previous"
    WIN_RATE_PREVIOUS = "win_rate_previous"
    WIN_RATE_FIRST = "win_rate_first"
    MEAN_LENGTH = "mean_length"
    TRUNCATED_SHARE = "truncated_share"
    EMPTY_SHARE = "empty_share"
    DISTINCT_2 = "distinct_2"


class Gate(StrEnum):
    """What is looked at before M_{t+1} is trained."""

    READABLE_SHARE = "readable_share"
    ONE_SCORE_SHARE = "one_score_share"
    TIE_SHARE = "tie_share"
    SPREAD = "spread"
    LENGTH_CORRELATION = "length_correlation"
    LENGTH_GROWTH = "length_growth"
    JUDGE_ACCURACY = "judge_accuracy"


class GateState(StrEnum):
    """What a gate found."""

    OK = "ok"
    WARN = "warn"
    PAUSE = "pause"
    ACCEPTED = "accepted"
    """It paused the daemon, and a user let it go on."""
    SKIPPED = "skipped"
    """There was nothing to measure."""


class CheckpointKind(StrEnum):
    """What made a checkpoint."""

    BASE = "base"
    SFT = "sft"
    DPO = "dpo"
    CDPO = "cdpo"
    CREAM = "cream"
    SLIC = "slic"
    RRHF = "rrhf"
    SFT_POSITIVE = "sft_positive"
    RL = "rl"
    COPY = "copy"
    """The model before it, as it is: the iteration has trained a reward model."""
    REWARD = "reward"
    """R_t, a reward model: it scores, and writes nothing."""

    @property
    def from_pairs(self) -> bool:
        """Whether it was trained on preference pairs."""
        kinds = CheckpointKind
        return self in {kinds.DPO, kinds.CDPO, kinds.CREAM, kinds.SLIC, kinds.REWARD}


class ControlAction(StrEnum):
    """What a user can ask of a running daemon."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class RankedReply:
    """One of several replies to a seed that people have put in order."""

    text: str
    rank: int
    """0 is the best. Two replies of one prompt may share a rank."""
    score: float | None = None
    """0–5 by the judge's rubric, where the seed brings one."""
    justification: str | None = None
    """Why that score, where the seed brings one. Without the `Score:` line."""
    canary_of: int | None = None
    """Position of the reply that this one repeats with an order to the judge added; None for a real one."""


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A human-written instruction with, where there are any, a good answer and ranked replies to it."""

    instruction: str
    answer: str | None = None
    origin: str = ""
    """The file it came from."""
    split: Split = Split.TRAIN
    replies: tuple[RankedReply, ...] = ()
    """Best first; at least two of different rank when there are any."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sampled continuation, as the engine returned it."""

    text: str
    finish_reason: str
    """`stop`, `length`, or whatever else the server says."""
    token_count: int
    mean_logprob: float | None
    """Mean log-probability of the generated tokens in nats; None when the server sent none."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How likely each of a few one-token continuations was."""

    probabilities: tuple[float, ...]
    """One for each choice, in order, over the whole vocabulary: they need not add up to 1."""
    token_count: int = 1

    @property
    def lost_mass(self) -> float:
        """Probability of everything that was no choice."""
        return max(0.0, 1.0 - sum(self.probabilities))


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A line of iterations."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """A model on disk: M_version."""

    id: int
    run_id: int
    version: int
    name: str
    kind: CheckpointKind
    path: str
    """Relative to the directory of the run from which all forks come."""
    digest: str
    parent_id: int | None
    pinned: bool = False
    """Whether a user keeps its files from retention."""
    removed: bool = False
    """Whether retention has removed its files."""


@dataclass(frozen=True, kw_only=True)
class IterationRow:
    """Iteration t of a run: what M_t wrote, answered and judged, and the training that follows."""

    id: int
    run_id: int
    t: int
    checkpoint_id: int
    setting_hash: str
    data_iteration_id: int
    """Whose prompts and candidates it uses: its own id unless it was forked with reuse."""
    status: Status


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage of one iteration. `cursor` is the greatest item id below which nothing is missing."""

    id: int
    iteration_id: int
    name: StageName
    status: Status
    attempts: int
    cursor: int
    detail: str
    error: str | None


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """An accepted prompt on its way to be answered. `missing` are the candidate indices it lacks."""

    id: int
    text: str
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CandidateTask:
    """A candidate on its way to be judged. `missing` are the judgement samples it lacks."""

    id: int
    prompt_id: int
    prompt_text: str
    text: str
    missing: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WrittenPrompt:
    """A prompt the model wrote, decided and ready to be stored."""

    draw: int
    """Which request of the iteration wrote it."""
    draw_index: int
    text: str
    status: PromptStatus
    reject_reason: RejectReason | None
    nearest_prompt_id: int | None
    nearest_rouge_l: float | None
    demonstration_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NewCandidate:
    """An answer ready to be stored."""

    prompt_id: int
    index: int
    text: str
    status: CandidateStatus
    finish_reason: str
    token_count: int
    mean_logprob: float | None


@dataclass(frozen=True, kw_only=True)
class NewJudgement:
    """A judgement ready to be stored."""

    candidate_id: int
    sample: int
    raw_text: str
    status: JudgementStatus
    score: float | None
    token_count: int
    finish_reason: str
    probabilities: tuple[float, ...] | None = None
    """P(0) … P(5) at the place of the score, when the score is an expectation."""
    reward: float | None = None
    """What a reward model gave; the score is 5·σ(reward)."""


@dataclass(frozen=True, kw_only=True)
class NewReplyJudgement:
    """A judgement of a ranked reply, ready to be stored."""

    reply_id: int
    sample: int
    raw_text: str
    status: JudgementStatus
    score: float | None
    token_count: int
    finish_reason: str
    probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class StoredReply:
    """A ranked reply as it is stored."""

    id: int
    position: int
    text: str
    rank: int
    score: float | None
    justification: str | None


@dataclass(frozen=True, kw_only=True)
class RankedPrompt:
    """A seed with its ranked replies, best first and canaries left out."""

    id: int
    text: str
    reference: str | None
    replies: tuple[StoredReply, ...]


@dataclass(frozen=True, kw_only=True)
class StoredReading:
    """A readable judgement of a ranked reply, as it is stored."""

    id: int
    sample: int
    raw_text: str
    score: float


@dataclass(frozen=True, kw_only=True)
class NewExample:
    """An example of the bootstrap, kept unless there is a reason to drop it."""

    kind: ExampleKind
    prompt_id: int
    input: str
    completion: str
    position: int = 0
    reply_id: int | None = None
    reply_judgement_id: int | None = None
    score: float | None = None
    drop_reason: DropReason | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """An example with its id, as the trainer needs it."""

    example_id: int
    input: str
    completion: str


@dataclass(frozen=True, kw_only=True)
class ComparisonTask:
    """An answer to compare. `missing` are (answer shown first, answer shown second) by id."""

    id: int
    prompt_text: str
    texts: Mapping[int, str]
    """Its own text and its opponents', by answer id."""
    missing: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class NewComparison:
    """The outcome of a comparison in one order, ready to be stored."""

    first_id: int
    second_id: int
    verdict: Verdict | None
    probability_first: float | None
    raw_text: str


@dataclass(frozen=True, kw_only=True)
class NewCandidateComparison:
    """What a judge made of two candidates of one prompt in one order, ready to be stored."""

    first_id: int
    second_id: int
    status: JudgementStatus
    probability_first: float | None = None
    """P(first is better) against P(second is better), 0–1; None unless the status is read."""
    lost_mass: float | None = None
    """Probability of everything but the two verdicts; None where the verdict was written."""
    raw_text: str = ""
    token_count: int = 0


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a judge made of two candidates in one order."""

    status: JudgementStatus
    probability_first: float | None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A prompt whose candidates are to be compared with each other."""

    id: int
    """That of its last candidate: prompts are taken in the order in which their candidates were complete."""
    prompt_id: int
    prompt_text: str
    texts: Mapping[int, str]
    """Of the candidates that can be compared, by id, in the order of their indices."""
    anchors: frozenset[int] = frozenset()
    """Those that an earlier model wrote."""
    orders: Mapping[tuple[int, int], Shown]
    """What was compared before, by (shown first, shown second)."""


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    """A checkpoint's answer to a held-out prompt."""

    prompt_id: int
    prompt: str
    text: str
    status: CandidateStatus


@dataclass(frozen=True, kw_only=True)
class JudgedReply:
    """A ranked reply with the readable scores one judge gave it: what a judge is measured on."""

    reply_id: int
    prompt_id: int
    rank: int
    length: int
    """Characters."""
    scores: tuple[float, ...]
    """0–5 each, in sample order; empty when none was readable."""
    samples: int
    """Judgements asked for, readable or not."""
    canary_of: int | None = None
    """Id of the reply that this one repeats with an order to the judge added."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two answers to one prompt, shown in both orders. None where the reply could not be read."""

    prompt_id: int
    shown_first: Verdict | None
    """The verdict when the answer under test was shown first."""
    shown_second: Verdict | None
    """The verdict when it was shown second."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """One figure of one checkpoint, with its 95% interval. `value` is None when nothing could be measured."""

    checkpoint: str
    suite: Suite
    metric: Metric
    value: float | None
    low: float | None
    high: float | None
    n: int
    """Items it was measured on: replies, pairs, prompts or answers, as the metric has it."""


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What one gate found in one iteration."""

    gate: Gate
    state: GateState
    value: float | None
    limit: float | None
    message: str
    """The finding and what to try, in words."""


@dataclass(frozen=True, kw_only=True)
class ScoredCandidate:
    """A candidate with the scores its readable judgements gave it (0–5 each, in sample order)."""

    id: int
    text: str
    scores: tuple[float, ...]
    status: CandidateStatus = CandidateStatus.OK
    reward: float | None = None
    """Raw reward, where a reward model judged."""
    token_count: int = 0
    anchor: bool = False
    """Whether an earlier model wrote it, to be the rejected one of an anchored pair."""


@dataclass(frozen=True, kw_only=True)
class ScoredPrompt:
    """A prompt with all its candidates: what a pair rule looks at."""

    id: int
    text: str
    candidates: tuple[ScoredCandidate, ...]
    preferences: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """(a, b), ids with a < b → P(a is better than b), averaged over both orders; of a pairwise judge."""


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """Chosen over rejected, for one prompt."""

    prompt_id: int
    chosen_id: int
    rejected_id: int
    chosen_score: float
    rejected_score: float
    soft_label: float | None = None
    """Probability that chosen is better; None for a hard label."""
    origin: str = "ai"
    """`ai`, or the name of the imported file."""

    @property
    def margin(self) -> float:
        """How much better the chosen one was judged, in points of the rubric."""
        return self.chosen_score - self.rejected_score


@dataclass(frozen=True, kw_only=True)
class PairDecision:
    """Why a prompt gave pairs, or did not. There are some exactly when the outcome is `paired`."""

    prompt_id: int
    outcome: PairOutcome
    pairs: tuple[PreferencePair, ...] = ()
    """Widest margin first; no two of the same two candidates."""
    best_score: float | None = None
    """Mean score of the best of the candidates that took part; None when unscored."""
    worst_score: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPair:
    """A preference pair with its texts, as the trainer needs it."""

    pair_id: int
    prompt: str
    chosen: str
    rejected: str
    soft_label: float | None = None
    """Probability that chosen is better; None for a hard label."""
    chosen_score: float | None = None
    rejected_score: float | None = None
    """Mean scores; None where the pair was imported without."""
    reference: str | None = None
    """The prompt's own good answer, where it has one."""


@dataclass(frozen=True, kw_only=True)
class ScoredText:
    """An answer with its mean score, as a ranking objective needs it."""

    candidate_id: int
    text: str
    score: float


@dataclass(frozen=True, kw_only=True)
class ScoredGroup:
    """All eligible answers to one prompt."""

    prompt_id: int
    prompt: str
    candidates: tuple[ScoredText, ...]
    """In the order of their ids; two at least."""


@dataclass(frozen=True, kw_only=True)
class PositiveExample:
    """An answer good enough to be learned from as it is."""

    candidate_id: int
    prompt: str
    text: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One answer over another to a prompt, as people or another model gave it: what is imported."""

    prompt: str
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None
    soft_label: float | None = None
    """Probability that chosen is better, 0 to 1; None for a hard label."""
    reference: str | None = None
    """A good answer to the prompt beside the two, where the source brings one: SLiC-HF's target."""


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """One number of one training step."""

    step: int
    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """Something the daemon did, and why."""

    id: int
    at: datetime
    kind: str
    message: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LeaseRow:
    """Who runs the run."""

    run_id: int
    owner: str
    fence: int
    heartbeat_at: datetime
    released: bool


@dataclass(frozen=True, kw_only=True)
class ControlRow:
    """A request a user left for the daemon."""

    id: int
    action: ControlAction
    requested_at: datetime
