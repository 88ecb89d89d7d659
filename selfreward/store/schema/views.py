"""What the views hold, in words. Their SQL is in the migrations, which say it as each database has it.

Columns are those of the newest revision, in the order of the view; a test holds them against both databases.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class View:
    """A view of the newest revision."""

    name: str
    comment: str
    """What a row is."""
    columns: Mapping[str, str]
    """Name → what it holds, in the view's order."""


RUN = "Name of the run."
T = "Number of the iteration in the run."
ITERATION = {"run": RUN, "t": T}

ITERATION_SUMMARY = View(
    name="iteration_summary",
    comment="An iteration that is worked on, or was: what it made, and what came of it.",
    columns={
        **ITERATION,
        "checkpoint": "M_t, the model that works in it.",
        "status": "As iteration.status.",
        "prompts": "Prompts that were accepted.",
        "rejected_prompts": "Prompts that were turned away.",
        "candidates": "Answers to the prompts.",
        "judgements": "Judgements of the candidates by the iteration's judge; NULL before there are any.",
        "readable": "Those of them that gave a score.",
        "mean_score": "Mean of the scores, 0 to 5.",
        "pairs": "Preference pairs that are trained on.",
        "mean_margin": "Mean of their chosen_score - rejected_score.",
        "steps": "The last optimiser step of the training.",
        "trained": "Name of the checkpoint that came of it; NULL before there is one.",
        "started_at": "UTC.",
        "finished_at": "UTC.",
    },
)
SCORE_HISTOGRAM = View(
    name="score_histogram",
    comment="A score, and how many judgements of an iteration's candidates gave it.",
    columns={
        **ITERATION,
        "score": "The score, rounded to tenths; NULL for judgements that gave none.",
        "judgements": "How many there are.",
    },
)
JUDGE_HEALTH = View(
    name="judge_health",
    comment="An iteration whose model has judged, or was measured as a judge: can it be trusted to train on?",
    columns={
        **ITERATION,
        "checkpoint": "M_t, the model that judges.",
        "judgements": "Its judgements of the iteration's candidates; NULL where it was only measured.",
        "readable_share": "Share of them that gave a score, 0 to 1.",
        "mean_score": "Mean of the scores, 0 to 5.",
        "score_sd": "Standard deviation of the scores.",
        "commonest_score": "The score given most often, in tenths; the lower of two.",
        "commonest_share": "Its share of the scores, 0 to 1.",
        "tie_share": "Share of the prompts with scored candidates whose candidates all have one mean score.",
        "spread": "Mean of best minus worst score of a prompt; as the gate found it.",
        "length_correlation": "Correlation of score and length within prompts; as the gate found it.",
        "pairwise_accuracy": "Share of pairs of held-out replies that it ranks as people do.",
        "accuracy_low": "Lower end of its 95% interval.",
        "accuracy_high": "Upper end of its 95% interval.",
        "gates_raised": "Health gates that warned or paused, let through or not.",
    },
)
PAIR_OUTCOMES = View(
    name="pair_outcomes",
    comment="An outcome, and how many prompts of an iteration came to it.",
    columns={
        **ITERATION,
        "outcome": "As pair_decision.outcome: paired, or why there is no pair.",
        "prompts": "How many prompts.",
    },
)
LENGTH_BY_ITERATION = View(
    name="length_by_iteration",
    comment="An iteration with candidates: how long they are. A loop that rewards length shows here.",
    columns={
        **ITERATION,
        "candidates": "How many there are.",
        "mean_tokens": "Mean tokens of a candidate.",
        "truncated_share": "Share of them that were cut off at max_tokens, 0 to 1.",
        "empty_share": "Share of them that are empty, 0 to 1.",
        "chosen_tokens": (
            "Mean tokens of the chosen candidates that are trained on. Each of them is looked up: leave this "
            "and the next out where time counts."
        ),
        "rejected_tokens": "The same of the rejected ones.",
    },
)
LINEAGE = View(
    name="lineage",
    comment=(
        "A judgement behind a preference pair: of each candidate of the pair's prompt, by the judge whose "
        "scores made the pair. A candidate without any has one row, with NULL for what there is not. Several "
        "pairs of one prompt have rows of their own."
    ),
    columns={
        "run": RUN,
        "t": "Number of the iteration that trains on the pair.",
        "pair_id": "The preference pair.",
        "prompt_id": "Its prompt.",
        "prompt": "The prompt's text.",
        "demonstrations": "Ids of the prompts that were shown when it was written, comma-separated; or NULL.",
        "candidate_id": "The candidate.",
        "candidate_index": "Which of the prompt's candidates it is, from 0.",
        "role": "chosen, rejected or other.",
        "candidate": "The candidate's text.",
        "judgement_id": "The judgement.",
        "sample": "Which of the candidate's judgements it is, from 0.",
        "score": "Its score, 0 to 5; NULL when it could not be read.",
        "judgement": "The judge's reply, whole.",
        "judge_id": "The judge; NULL for an imported pair.",
        "written_by": "Name of the checkpoint that wrote the candidate; NULL for an imported one.",
        "judged_by": "Name of the checkpoint that judged; NULL for a judge that is not of this run, or none.",
        "trained": "Name of the checkpoint that was trained on the pair; NULL before, or when left out.",
    },
)
TRAINING_CURVE = View(
    name="training_curve",
    comment="An optimiser step of an iteration's training, as the last attempt that came to it reported it.",
    columns={
        **ITERATION,
        "step": "The step, from 1.",
        "loss": "DPO loss; in the bootstrap that of SFT.",
        "margin": "Mean implicit reward of chosen minus rejected.",
        "accuracy": "Share of pairs whose chosen one has the higher implicit reward.",
        "learning_rate": "Learning rate.",
        "grad_norm": "Norm of the gradient.",
    },
)
THROUGHPUT = View(
    name="throughput",
    comment=(
        "A stage that was started, with what it made and how fast. Stages that a fork took over are not in "
        "it. Stages of an iteration overlap, and pauses count as time."
    ),
    columns={
        **ITERATION,
        "stage": "As stage.name.",
        "started_at": "UTC, first start.",
        "finished_at": "UTC; NULL while it is under way.",
        "seconds": "From the first start to the end; NULL while it is under way.",
        "items": (
            "What it made: accepted prompts, candidates, judgements, agreements, decisions, examples, "
            "answers, comparisons or optimiser steps; NULL where there are none."
        ),
        "tokens": "Tokens that were written for them; NULL where they are not counted.",
        "items_per_second": "items / seconds.",
        "tokens_per_second": "tokens / seconds.",
    },
)
HELD_OUT_SCORES = View(
    name="held_out_scores",
    comment="A score, and how many judgements of held-out replies, which people have ranked, gave it.",
    columns={
        "run": "Name of the run that made the checkpoint.",
        "checkpoint": "The judge.",
        "score": "The score, 0 to 5; NULL for judgements that gave none.",
        "judgements": "How many there are; canaries are left out.",
    },
)
BOOTSTRAP_EXAMPLES = View(
    name="bootstrap_examples",
    comment="What became of the bootstrap's examples, and of how many.",
    columns={
        "run": RUN,
        "kind": "ift (to answer a prompt) or eft (to judge a reply).",
        "outcome": "kept, or why they were dropped: as sft_example.drop_reason.",
        "examples": "How many.",
    },
)
POSITION_BIAS = View(
    name="position_bias",
    comment="A judge that has compared candidates: how much their order on the page decides.",
    columns={
        **ITERATION,
        "judge_id": "The judge.",
        "comparisons": "Comparisons of two candidates in one order that could be read.",
        "first_share": "Mean probability that the one shown first is better; 0.5 is no bias.",
        "flipped_share": (
            "Share of the couples read in both orders in which the same place wins both times; NULL where "
            "there are none."
        ),
    },
)

VIEWS = (
    ITERATION_SUMMARY,
    SCORE_HISTOGRAM,
    JUDGE_HEALTH,
    PAIR_OUTCOMES,
    LENGTH_BY_ITERATION,
    LINEAGE,
    TRAINING_CURVE,
    THROUGHPUT,
    HELD_OUT_SCORES,
    BOOTSTRAP_EXAMPLES,
    POSITION_BIAS,
)
