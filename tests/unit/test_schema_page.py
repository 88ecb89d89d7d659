"""docs/schema.md is what the schema says of itself today."""

from pathlib import Path

from selfreward.schema_page import page
from selfreward.store.schema import VIEWS, Table
from tests.commands import selfreward

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: selfreward db docs > docs/schema.md"


def test_the_command_prints_it() -> None:
    done = selfreward("db", "docs")
    assert done.returncode == 0 and done.stdout == page()


def test_every_table_and_view_has_a_part_with_all_its_columns() -> None:
    parts = {part.split("\n")[0]: part for part in page().split("\n### ")[1:]}
    names = {table.name: [column.name for column in table.columns] for table in Table.metadata.sorted_tables}
    names |= {view.name: list(view.columns) for view in VIEWS}
    assert parts.keys() == names.keys()
    for name, columns in names.items():
        assert all(f"| `{column}` |" in parts[name] for column in columns), name


def test_every_reference_is_in_a_diagram() -> None:
    lines = page().split("\n")
    for line in (
        '    prompt ||--o{ candidate : "prompt_id"',
        '    candidate ||--o{ judgement : "candidate_id"',
        '    engine_session |o--o{ candidate : "session_id"',
        '    checkpoint ||--o{ evaluation : "run_id, checkpoint"',
    ):
        assert line in lines
    keys = sum(len(table.foreign_key_constraints) for table in Table.metadata.sorted_tables)
    assert sum("--o{" in line for line in lines) == keys


def test_every_row_of_a_grid_has_as_many_cells_as_its_head() -> None:
    """A bar in a comment would open another cell."""
    for block in page().split("\n\n"):
        grid = [line for line in block.split("\n") if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in grid}) <= 1, grid
