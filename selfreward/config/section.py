"""What every table of settings is: frozen, and closed to keys it does not know."""

from pydantic import BaseModel, ConfigDict

Scalar = str | int | float | bool


class Section(BaseModel):
    """Base of every settings table: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )
