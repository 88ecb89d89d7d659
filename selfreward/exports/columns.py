"""Exported rows as what files hold: columns of an Arrow schema, records of JSON, and back again."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from selfreward.errors import BadInput
from selfreward.store.exported import Exported, Message

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

Row = TypeVar("Row", bound=Exported)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of an export."""

    name: str
    type: Any
    """`str`, `int`, `float`, `tuple[Message, ...]` or `tuple[float, ...]`."""
    nullable: bool
    about: str


def columns(row_type: Any) -> tuple[Column, ...]:
    """The columns of a kind of row, one of `Exported`, in order."""
    return _columns(row_type)


@cache
def _columns(row_type: Any) -> tuple[Column, ...]:
    hints = get_type_hints(row_type)
    return tuple(
        Column(name=field.name, about=field.metadata["about"], **_typed(hints[field.name]))
        for field in fields(row_type)
    )


def _typed(hint: Any) -> dict[str, Any]:
    if get_origin(hint) not in (Union, types.UnionType):
        return {"type": hint, "nullable": False}
    [inner] = [part for part in get_args(hint) if part is not type(None)]
    return {"type": inner, "nullable": True}


def arrow_schema(row_type: type[Exported]) -> "pyarrow.Schema":
    """The same columns as Arrow has them."""
    import pyarrow as pa

    turn = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])
    known = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        tuple[Message, ...]: pa.list_(turn),
        tuple[float, ...]: pa.list_(pa.float64()),
    }
    return pa.schema([pa.field(column.name, known[column.type]) for column in columns(row_type)])


def to_record(row: Exported) -> dict[str, Any]:
    """A row as JSON has it, and Arrow takes it."""
    return {name: plain(value) for name, value in vars(row).items()}


def plain(value: Any) -> Any:
    """A value of a row as JSON has it."""
    if not isinstance(value, tuple):
        return value
    return [vars(item) if isinstance(item, Message) else item for item in value]


def record_batch(rows: Sequence[Exported], schema: "pyarrow.Schema") -> "pyarrow.RecordBatch":
    """Rows as Arrow has them: column by column, which is much less work than record by record."""
    import pyarrow as pa

    arrays = [pa.array([plain(getattr(row, field.name)) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def from_record(row_type: type[Row], record: Any, place: str) -> Row:
    """The row that `to_record` was given. Columns that an export does not have are passed over.

    Raises BadInput, naming `place`, when one is missing or does not hold what it should.
    """
    if not isinstance(record, Mapping):
        raise BadInput(f"{place}: expected an object, found {type(record).__name__}", _HINT)
    return row_type(**{column.name: _read(column, record, place) for column in columns(row_type)})


def _read(column: Column, record: Mapping[str, Any], place: str) -> Any:
    value = record.get(column.name)
    if value is None and column.nullable and column.name in record:
        return None
    if column.name not in record:
        raise BadInput(f"{place}: there is no column {column.name!r}", _HINT)
    try:
        return _READERS[column.type](value)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise BadInput(f"{place}: {column.name} cannot be {str(value)[:40]!r}", _HINT) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _turns(value: Any) -> tuple[Message, ...]:
    return tuple(Message(role=_text(turn["role"]), content=_text(turn["content"])) for turn in value)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(_number, value))


_READERS: dict[Any, Any] = {
    str: _text,
    int: _whole,
    float: _number,
    tuple[Message, ...]: _turns,
    tuple[float, ...]: _numbers,
}
_HINT = "It is not an export of this kind, or it was changed since: export it again."
