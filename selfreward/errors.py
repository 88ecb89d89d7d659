"""Errors that a user can act on. Anything else that is raised is a bug and shows its traceback."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status says to a script or an init system."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    NOT_RUNNING = 3
    BUSY = 4


class SelfRewardError(Exception):
    """A failure with a cause, a place and a way out: printed as a message, never as a traceback.

    `message` says what was wrong and where; `hint` says what to do about it.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class BadInput(SelfRewardError):
    """A setting, a file or an argument that cannot be used as it is."""

    exit_code = ExitCode.BAD_INPUT


class NotRunning(SelfRewardError):
    """The command talks to a daemon, and none is running."""

    exit_code = ExitCode.NOT_RUNNING


class Busy(SelfRewardError):
    """Another daemon owns this run."""

    exit_code = ExitCode.BUSY


class LeaseLost(SelfRewardError):
    """A newer owner has taken the run: whatever this process still holds must not be written."""

    exit_code = ExitCode.BUSY


class EngineError(SelfRewardError):
    """The inference server did not start, or died while it was needed."""


class TrainingError(SelfRewardError):
    """The training child failed; the current checkpoint is untouched.

    `kind` is what the child called it (out_of_memory, no_space, non_finite, …), empty when it could not say.
    """

    def __init__(self, message: str, hint: str = "", kind: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind


class StoreError(SelfRewardError):
    """The database cannot be used: wrong revision, or one of the two below."""


class StoreUnavailable(StoreError):
    """The database is locked or cannot be reached. Nothing was written; trying again later can succeed."""


class DiskFull(StoreError):
    """There is no space left. Nothing was written; what is committed is there."""


class Halted(SelfRewardError):
    """The loop cannot go on by itself and says why; the current checkpoint stays."""
