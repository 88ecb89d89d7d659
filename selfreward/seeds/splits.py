"""Which seeds are kept for measuring: decided by their text alone, so that no run ever trains on them."""

from selfreward.text import digest
from selfreward.types import Split


def key_of(instruction: str) -> str:
    """The same for instructions that differ only in case or spacing."""
    return " ".join(instruction.split()).casefold()


def split_of(instruction: str, held_out: float) -> Split:
    """HELD_OUT for about a share `held_out` (0 to 1) of all texts.

    Every text has a fixed place between 0 and 1 and is held out when it lies below the share: a
    greater share adds to the held-out texts and takes none of them away.
    """
    place = int(digest(key_of(instruction))[:13], 16) / 16**13  # 52 bits: exact, and always below 1
    return Split.HELD_OUT if place < held_out else Split.TRAIN
