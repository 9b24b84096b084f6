"""Base of the settings of every room: frozen, unknown keys refused."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationInfo, field_validator


class Settings(BaseModel):
    """Settings of one room; the field descriptions are the reference in docs/recipe.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes and on as true, which would count as the number 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {annotation, *get_args(annotation)}:
            raise ValueError("expected a number")
        return value

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings that shape the output, as they enter a step's key."""
        return self.model_dump(mode="json")
