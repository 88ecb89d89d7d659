"""How much is asked of the engine at once: what the settings say, or less after it has failed."""

from selfreward.config import EngineSettings


class Load:
    """Shared by all stages of a daemon's life. The stored settings, and their hash, stay as they are."""

    def __init__(self) -> None:
        self.halvings = 0
        """How often the batch has been halved."""
        self.rows = 0
        """Rows that were made from the engine's answers and are committed: whether it gets anything done."""

    def lighten(self, settings: EngineSettings) -> EngineSettings:
        """The settings to serve with now."""
        if not self.halvings:
            return settings
        smaller = {
            "max_num_seqs": max(1, settings.max_num_seqs >> self.halvings),
            "concurrency": max(1, settings.concurrency >> self.halvings),
        }
        return settings.model_copy(update=smaller)

    def halve(self) -> None:
        """Ask for half of what was asked for so far."""
        self.halvings += 1

    def restore(self) -> None:
        """Ask for what the settings say."""
        self.halvings = 0
