"""To the hub, when the user asks for it: a repository is made where there is none, and a folder put into it.

The token is the one that `huggingface_hub` finds (HF_TOKEN, or what `hf auth login` stored). It is never
asked for, shown or stored here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from selfreward.errors import BadInput, SelfRewardError

RepoType = Literal["model", "dataset"]
INSTALL_HINT = "Install it: pip install 'selfreward-daemon[train]'."
LOGIN_HINT = "Set HF_TOKEN to a token that may write, or log in: hf auth login"
MESSAGES = {
    401: ("does not accept the token", LOGIN_HINT),
    403: ("does not let you write there", "The token needs the right to write, and the owner must be yours."),
    404: ("has no such owner or repository", "Write it as OWNER/NAME, with an owner that you may write to."),
    413: ("finds a file too large", "Export fewer iterations at once."),
    429: ("has had too many requests", "Wait a while and push again."),
}


def check_repository(repository: str) -> None:
    """Raise BadInput, before any work is done, where a push cannot succeed: no package, name or token."""
    hub = _package()
    try:
        hub.utils.validate_repo_id(repository)
    except hub.errors.HFValidationError as error:
        raise BadInput(f"--push {repository}: {_first_line(error)}", "Write it as OWNER/NAME.") from None
    if repository.count("/") != 1:
        raise BadInput(f"--push {repository}: the owner is missing", "Write it as OWNER/NAME.")
    if hub.get_token() is None:
        raise BadInput("--push needs a token of the hub, and there is none", LOGIN_HINT)


def push(folder: Path, repository: str, kind: RepoType, *, public: bool = False) -> str:
    """Put all of `folder` into a repository, which is made private unless it is there or `public`.

    Returns its address. Raises BadInput or SelfRewardError with the hub's own words.
    """
    api = _package().HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="selfreward")
    with _explained(repository):
        made = api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type=kind,
            commit_message=f"Export of selfreward: {folder.name}",
        )
    return str(made)


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """The hub's complaints as messages. What was exported stays where it is, to be pushed again."""
    hub = _package()
    transport = hub.errors.HfHubHTTPError.__bases__[0]  # of whichever HTTP library the hub's own uses
    try:
        yield
    except hub.errors.OfflineModeIsEnabled:
        raise SelfRewardError(
            f"{repository} was not pushed: HF_HUB_OFFLINE is set", "Unset it, and push again."
        ) from None
    except hub.errors.LocalTokenNotFoundError:
        raise BadInput(f"{repository} was not pushed: there is no token of the hub", LOGIN_HINT) from None
    except hub.errors.HfHubHTTPError as error:
        raise _refused(repository, error) from None
    except (transport, ConnectionError, TimeoutError, RuntimeError) as error:  # RuntimeError: its uploader
        why = _first_line(error)
        raise SelfRewardError(
            f"{repository} was not pushed: the hub cannot be reached: {why}",
            "Get online and push again; what was exported is complete.",
        ) from None


def _refused(repository: str, error: Any) -> SelfRewardError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = getattr(error, "server_message", None) or _first_line(error)
    what, hint = MESSAGES.get(status or 0, ("refuses it", "What was exported is complete: push it again."))
    kind = BadInput if status in (401, 403, 404) else SelfRewardError
    return kind(f"{repository} was not pushed: the hub {what} ({status}): {said}", hint)


def _package() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors  # which the package does not load by itself
        import huggingface_hub.utils
    except ImportError:
        raise BadInput("--push needs huggingface_hub, which is not installed", INSTALL_HINT) from None
    return huggingface_hub


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
