"""Why a record gives no preference, under which name that is counted, and what is not understood at all."""

from enum import StrEnum


class LeftOut(StrEnum):
    """Why a record that is well formed is not taken. Trees have further reasons: `selfreward.seeds.skips`."""

    TOO_LARGE = "too_large"
    EMPTY = "empty"
    SAME_TEXT = "same_text"
    """Chosen and rejected are one text."""
    NO_PROMPT = "no_prompt"
    """Neither a prompt nor a transcript that begins with one."""
    NO_REPLY = "no_reply"
    """The dialogue ends with the user's turn."""
    SEVERAL_TURNS = "several_turns"
    """A longer dialogue: a prompt is one turn here, and flattened it would be another one."""
    SYSTEM_MESSAGE = "system_message"
    """It was answered under a system message, which prompts here do not have."""
    EXCLUDED = "excluded"
    """Exported by `export pairs --with-excluded`: it was not trained on there either."""
    HELD_OUT = "held_out"
    """Its prompt is a held-out seed of the run: nothing may be trained on what measures it."""


class NotUnderstood(Exception):
    """A record that is JSON but of no known format; the message says what is wrong with it."""
