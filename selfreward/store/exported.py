"""What the rows of an export are: frozen, each column with the words that describe it on a data-set card."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """An iteration to export, and who worked in it."""

    iteration_id: int
    data_iteration_id: int
    """Whose prompts and candidates it uses: another one where a fork reuses them."""
    run_id: int
    run: str
    t: int
    setting_hash: str
    judge_id: int | None
    """Whose judgements count; None before there are any."""
    written_by: str
    """Name of the checkpoint that wrote prompts and candidates."""


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """Who judged, and how."""

    checkpoint: str | None
    """None for a judge that is not of the run."""
    template: str
    template_digest: str
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class IterationFacts:
    """What an iteration made, in figures: a row of the view `iteration_summary`."""

    t: int
    checkpoint: str
    prompts: int
    candidates: int
    judgements: int | None
    mean_score: float | None
    pairs: int
    mean_margin: float | None


def column(about: str) -> Any:
    """A field of an exported row, with what it holds."""
    return field(metadata={"about": about})


def user(text: str) -> tuple[Message, ...]:
    """A conversation of one turn, the user's."""
    return (Message(role="user", content=text),)


def assistant(text: str) -> tuple[Message, ...]:
    """A conversation of one turn, the assistant's."""
    return (Message(role="assistant", content=text),)


_RUN = "Name of the run the iteration belongs to."
_ITERATION = "The iteration, t."
_WRITTEN_BY = "The checkpoint that wrote the text."
_JUDGED_BY = "The checkpoint that judged; null where the judge is not of the run, or nobody judged."
_JUDGE_ID = "Its way of judging (`judge.id`)."
_PROMPT_ID = "`prompt.id`"


@dataclass(frozen=True, kw_only=True)
class ExportedPair:
    """A preference pair in TRL's conversational format, with what is known of it."""

    prompt: tuple[Message, ...] = column("The instruction: one turn of the user.")
    chosen: tuple[Message, ...] = column("The better reply: one turn of the assistant.")
    rejected: tuple[Message, ...] = column("The worse reply: one turn of the assistant.")
    chosen_score: float | None = column("Mean score of the chosen reply, 0 to 5; null if it has none.")
    rejected_score: float | None = column("Mean score of the rejected reply, 0 to 5; null if it has none.")
    margin: float | None = column("`chosen_score` − `rejected_score`; null where one is not there.")
    soft_label: float | None = column("Probability that chosen is better; null for a hard label.")
    origin: str = column("`ai` (a judge's scores made it), or the name of the imported file.")
    excluded: str | None = column("Why it was left out of training (`too_long`, …); null if it was not.")
    pair_id: int = column("`preference_pair.id`")
    prompt_id: int = column(_PROMPT_ID)
    chosen_id: int = column("`candidate.id` of the chosen reply.")
    rejected_id: int = column("`candidate.id` of the rejected reply.")
    run: str = column(_RUN)
    iteration: int = column(_ITERATION)
    written_by: str | None = column(
        "The checkpoint that wrote prompt and chosen reply; null for an imported pair."
    )
    judged_by: str | None = column(_JUDGED_BY)
    judge_id: int | None = column(f"{_JUDGE_ID[:-1]}; null for an imported pair.")


@dataclass(frozen=True, kw_only=True)
class ExportedCandidate:
    """One of the answers to a prompt, an earlier model's too, with what its judge made of it."""

    prompt: str = column("The instruction.")
    text: str = column("The answer.")
    status: str = column("`ok`, `truncated` (cut off at the most tokens), `empty`, `too_long` or `failed`.")
    finish_reason: str = column("Why it ended, as the engine said: `stop`, `length`, …")
    token_count: int = column("Tokens of the answer.")
    mean_logprob: float | None = column(
        "Mean log-probability of its tokens in nats; null when unknown or not finite."
    )
    mean_score: float | None = column("Mean of its readable scores, 0 to 5; null when there is none.")
    judgements: int = column("Judgements asked for, readable or not.")
    readable: int = column("Judgements with a score.")
    candidate_id: int = column("`candidate.id`")
    candidate_index: int = column("Which of the prompt's answers it is, from 0.")
    prompt_id: int = column(_PROMPT_ID)
    run: str = column(_RUN)
    iteration: int = column(_ITERATION)
    written_by: str = column(_WRITTEN_BY)
    judged_by: str | None = column(_JUDGED_BY)
    judge_id: int | None = column(f"{_JUDGE_ID[:-1]}; null before there are judgements.")


@dataclass(frozen=True, kw_only=True)
class ExportedJudgement:
    """One sampled judgement of one candidate, with what was judged."""

    prompt: str = column("The instruction.")
    response: str = column("The answer that is judged.")
    raw_text: str = column("The judge's reply, whole.")
    status: str = column("`read`, `unreadable`, `out_of_range`, `too_long` or `failed`.")
    score: float | None = column("0 to 5; null unless the status is `read`.")
    probabilities: tuple[float, ...] | None = column(
        "P(0) … P(5) where the score is an expectation; null where it was sampled."
    )
    lost_mass: float | None = column("Probability of everything but the six scores; null where sampled.")
    token_count: int = column("Tokens of the judge's reply.")
    finish_reason: str = column("Why it ended, as the engine said: `stop`, `length`, …")
    judgement_id: int = column("`judgement.id`")
    candidate_id: int = column("`candidate.id`")
    prompt_id: int = column(_PROMPT_ID)
    sample: int = column("Which of the candidate's judgements it is, from 0.")
    run: str = column(_RUN)
    iteration: int = column(_ITERATION)
    written_by: str = column("The checkpoint that wrote the answer.")
    judged_by: str | None = column(_JUDGED_BY)
    judge_id: int = column(_JUDGE_ID)
    template: str = column("Name of the judge's prompt template.")
    template_digest: str = column("sha256 of the template's text.")


@dataclass(frozen=True, kw_only=True)
class ExportedExample:
    """A prompt with a completion worth learning, in TRL's conversational format."""

    prompt: tuple[Message, ...] = column("What the model is shown: one turn of the user.")
    completion: tuple[Message, ...] = column("What it is to reply: one turn of the assistant.")
    source: str = column(
        "`ift` (the bootstrap: to answer a prompt), `eft` (the bootstrap: to judge a reply) or `best` "
        "(the best-scored answer to a prompt of the iteration)."
    )
    score: float | None = column("`eft`: the score that is taught; `best`: the mean score; null for `ift`.")
    example_id: int | None = column("`sft_example.id`; null for `best`.")
    candidate_id: int | None = column("`best`: `candidate.id`; else null.")
    prompt_id: int = column(_PROMPT_ID)
    run: str = column(_RUN)
    iteration: int = column(_ITERATION)
    written_by: str | None = column(
        "The checkpoint that wrote the completion; null where people or the seeds' own judgements did."
    )


Exported = ExportedPair | ExportedCandidate | ExportedJudgement | ExportedExample
