"""What the shell offers when a user presses the tab key. It opens no database, and never fails."""

from pathlib import Path

import typer


def saved_names(incomplete: str) -> list[tuple[str, str]]:
    """Names of saved queries, with their titles."""
    from selfreward.cookbook import saved_queries

    return [(query.name, query.title) for query in saved_queries() if query.name.startswith(incomplete)]


def relation_names(incomplete: str) -> list[tuple[str, str]]:
    """Names of tables and views, with what they hold."""
    from selfreward.store.relations import comments_by_name

    found = sorted(comments_by_name().items())
    return [(name, comment) for name, comment in found if name.startswith(incomplete)]


def parameter_names(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """`t=` and the like: what the saved query that is named can be told."""
    from selfreward.cookbook import saved_queries

    wanted = context.params.get("saved")
    known = [each for query in saved_queries() if query.name == wanted for each in query.parameters]
    return [(f"{each.name}=", each.meaning) for each in known if each.name.startswith(incomplete)]


def run_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the run in the directory that is named, or in this one, and of all its forks."""
    import tomllib

    from selfreward.places import SETTINGS_FILE, fork_names, root_of

    root = root_of(Path(context.params.get("directory") or "."))
    try:
        first = tomllib.loads((root / SETTINGS_FILE).read_text(encoding="utf-8")).get("name", "main")
    except (OSError, ValueError):
        return []
    return [name for name in (str(first), *fork_names(root)) if name.startswith(incomplete)]
