"""`selfreward runs`: the runs of a database and how they were forked, as a tree or as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from selfreward.store import Store
from selfreward.store.lineage import RunNode


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A run as `runs` shows it."""

    name: str
    parent: str | None
    from_iteration: int | None
    """It goes on from M_K of its parent."""
    iterations_done: int
    """Of its own."""
    newest: str | None
    """Its newest checkpoint, its parent's M_K before it has one."""
    running: bool
    owner: str | None
    """host:pid of the daemon that owns it, or owned it last."""


def gather(store: Store, lease_timeout_s: float) -> list[RunState]:
    """Every run, oldest first."""
    tree, done = store.runs.tree(), store.runs.iterations_done()
    return [_state(store, tree, node, done.get(node.id, 0), lease_timeout_s) for node in tree.values()]


def as_json(states: Sequence[RunState]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [asdict(state) for state in states]


def show(states: Sequence[RunState]) -> None:
    """Print the tree."""
    console = Console()
    if not states:
        console.print("no runs yet: selfreward start")
    branches: dict[str, Tree] = {}
    for state in states:  # a parent is older than its forks
        above = branches.get(state.parent) if state.parent else None
        label = _label(state)
        branches[state.name] = Tree(label) if above is None else above.add(label)
    for state in states:
        if state.parent is None:
            console.print(branches[state.name], soft_wrap=True)


def _state(
    store: Store, tree: Mapping[int, RunNode], node: RunNode, done: int, lease_timeout_s: float
) -> RunState:
    line = [row for row in store.runs.checkpoints(node.id) if row.name == f"M_{row.version}"]
    lease = store.leases.find(node.id)
    return RunState(
        name=node.name,
        parent=None if node.parent_id is None else tree[node.parent_id].name,
        from_iteration=node.parent_iteration,
        iterations_done=done,
        newest=line[-1].name if line else None,
        running=store.leases.running(node.id, lease_timeout_s),
        owner=lease.owner if lease else None,
    )


def _label(state: RunState) -> Text:
    count = f"{state.iterations_done} iteration{'' if state.iterations_done == 1 else 's'} done"
    parts: list[Any] = [(state.name, "bold"), f"  {count}, newest {state.newest or 'none yet'}"]
    if state.from_iteration is not None:
        parts.append((f"  from iteration {state.from_iteration} of {state.parent}", "dim"))
    if state.running:
        parts.append((f"  running as {state.owner}", "green"))
    return Text.assemble(*parts)
