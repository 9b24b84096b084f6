"""Base of the settings of every room: frozen, unknown keys refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue


class Settings(BaseModel):
    """Settings of one room; the field descriptions are the reference in docs/recipe.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings that shape the output, as they enter a step's key."""
        return self.model_dump(mode="json")
