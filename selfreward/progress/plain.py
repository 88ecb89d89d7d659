"""Where a run stands, for programs: JSON with times in ISO 8601."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from selfreward.progress.figures import RunStatus


def as_json(status: RunStatus) -> dict[str, Any]:
    """Everything that `status` shows, as plain values."""
    plain: dict[str, Any] = _plain(asdict(status))
    plain["histogram"]["judgements"] = status.histogram.judgements
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
