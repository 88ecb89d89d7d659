"""Records of a data set of the hub, or of a local directory that `datasets` can load."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfreward.errors import BadInput
from selfreward.seeds.tables import BATCH_ROWS, INSTALL_HINT, batch_records, first_line, wanted

PREFIX = "hub:"
_FORM = "Write hub:ORG/NAME or hub:ORG/NAME:SPLIT, as in hub:OpenAssistant/oasst1:train+validation."


def hub_records(name: str, base: Path) -> Iterator[tuple[str, Any]]:
    """Every row of `hub:ORG/NAME[:SPLIT]` with its number from 1; the split is `train` where none is named.

    A directory of that name under `base` is read in place of the hub's. Raises BadInput where the
    data set cannot be had or is broken.
    """
    dataset = _load(name, base)
    try:
        columns = dataset.select_columns(wanted(dataset.column_names))
        yield from batch_records(columns.with_format("arrow").iter(batch_size=BATCH_ROWS), name)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{name}: broken data: {first_line(error)}", "Delete its cached copy and get it again."
        ) from None


def _load(name: str, base: Path) -> Any:
    source, _, split = name.removeprefix(PREFIX).partition(":")
    if not source.strip():
        raise BadInput(f"{name!r} names no data set", _FORM)
    try:
        import datasets
    except ImportError:
        raise BadInput(f"{name} needs the package datasets, which is not installed", INSTALL_HINT) from None
    local = base / source
    try:
        return datasets.load_dataset(str(local) if local.is_dir() else source, split=split or "train")
    except ConnectionError as error:
        raise BadInput(
            f"{name}: the hub cannot be reached: {first_line(error)}",
            "Get online (HF_HUB_OFFLINE must not be set), or download the data set's file "
            "elsewhere and name its path instead.",
        ) from None
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(f"{name} cannot be loaded: {first_line(error)}", _FORM) from None
