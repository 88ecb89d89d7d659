"""Which rows of which runs make up a run's history: a fork's goes on from its parent's M_K.

A run is a chain of links: itself, the run it was forked from, and so on up to the root. Of an ancestor
only what came before the fork counts: its iterations t < K and its checkpoints up to M_K.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute

from selfreward.store.schema import Checkpoint, Iteration, Run


@dataclass(frozen=True, kw_only=True)
class RunNode:
    """A run and its place in the tree."""

    id: int
    name: str
    parent_id: int | None
    parent_iteration: int | None
    """K: it goes on from M_K of its parent, with an iteration K of its own."""
    seeds_run_id: int | None
    """Whose seeds it uses; None: its own."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One run of a lineage, and how much of it counts."""

    run_id: int
    fork: int | None
    """Its iterations t < fork count, and its checkpoints up to M_fork; None: all of them."""

    def holds_iteration(self, t: int) -> bool:
        """Whether this run's iteration t belongs to the history."""
        return self.fork is None or t < self.fork


def nodes(connection: Connection) -> dict[int, RunNode]:
    """Every run by its id, oldest first."""
    query = select(
        Run.id,
        Run.name,
        Run.parent_run_id.label("parent_id"),
        Run.parent_iteration,
        Run.seeds_run_id,
    ).order_by(Run.id)
    return {row.id: RunNode(**row._asdict()) for row in connection.execute(query)}


def lineage(connection: Connection, run_id: int) -> list[Link]:
    """The run itself first, then its ancestors up to the root."""
    runs = nodes(connection)
    links, node, fork = [Link(run_id=run_id, fork=None)], runs.get(run_id), None
    while node is not None and node.parent_id is not None:
        assert node.parent_iteration is not None
        fork = node.parent_iteration if fork is None else min(fork, node.parent_iteration)
        links.append(Link(run_id=node.parent_id, fork=fork))
        node = runs[node.parent_id]
    return links


def counted_checkpoints(links: Sequence[Link]) -> ColumnElement[bool]:
    """Which rows of `checkpoint` belong to the history.

    Of what carries the fork's own number only M_K does: the SFT baseline M_0_ift beside M_0 is what
    iteration 0 made, which a fork from iteration 0 does again.
    """
    return or_(
        *(
            and_(
                Checkpoint.run_id == link.run_id,
                true()
                if link.fork is None
                else or_(Checkpoint.version < link.fork, Checkpoint.name == f"M_{link.fork}"),
            )
            for link in links
        )
    )


def counted_iterations(links: Sequence[Link]) -> ColumnElement[bool]:
    """Which rows of `iteration` belong to the history."""
    return or_(
        *(
            and_(Iteration.run_id == link.run_id, true() if link.fork is None else Iteration.t < link.fork)
            for link in links
        )
    )


def data_iterations(links: Sequence[Link]) -> Select[int | None]:
    """Ids of the iterations whose prompts the history has used, a reused parent's included."""
    return select(Iteration.data_iteration_id).where(counted_iterations(links))


def seeds_of(column: InstrumentedAttribute[int], run_id: int) -> ColumnElement[bool]:
    """That `column`, a seed's run, is the one whose seeds the run uses."""
    shared = select(Run.seeds_run_id).where(Run.id == run_id).scalar_subquery()
    return column == func.coalesce(shared, run_id)
