"""What is left out of the seeds, under which name it is counted, and how much is ever held at once."""

from enum import StrEnum

MAX_RECORD_BYTES = 8_000_000
"""A longer line, or a Parquet row above this, is skipped. A tree with dozens of replies is far smaller."""
MAX_TEXT_BYTES = 100_000
"""A longer instruction, answer or reply, in UTF-8, fits no context it could be used in."""


class Skip(StrEnum):
    """Why a record gave no seed, or a seed not all of its replies."""

    TOO_LARGE = "too_large"
    EMPTY = "empty"
    NO_INSTANCE = "no_instance"
    """A Self-Instruct task without instances: its input is missing."""
    NO_INSTRUCTION = "no_instruction"
    """An exported example of judging: it teaches the judge's rubric, and is no task."""
    NOT_ENGLISH = "not_english"
    DELETED = "deleted"
    SYNTHETIC = "synthetic"
    """Written by a model, not by a person."""
    FAILED_REVIEW = "failed_review"
    NO_RANKED_REPLY = "no_ranked_reply"
    """A tree with neither a usable best reply (rank 0) nor two usable replies of different rank."""
    DUPLICATE = "duplicate"

    RANKS_MISSING = "ranks_missing"
    """A seed that keeps its answer but no replies: fewer than two usable ones have a rank."""
    RANKS_EQUAL = "ranks_equal"
    """A seed that keeps its answer but no replies: all usable ones share one rank."""

    REPLY_TOO_LARGE = "reply_too_large"
    REPLY_EMPTY = "reply_empty"
    REPLY_NOT_ENGLISH = "reply_not_english"
    REPLY_DELETED = "reply_deleted"
    REPLY_SYNTHETIC = "reply_synthetic"
    REPLY_FAILED_REVIEW = "reply_failed_review"
    REPLY_UNRANKED = "reply_unranked"
    REPLY_WITHOUT_PROMPT = "reply_without_prompt"
    """A reply in a table of messages whose prompt is not in the table."""
