"""What to collect and within which limits."""

from __future__ import annotations

from pydantic import Field, JsonValue

from fieldwise.settings import Settings


class CollectSettings(Settings):
    """Sources and limits of the collect stage."""

    sources: tuple[str, ...] = Field((), description="folders, files or glob patterns; relative to the recipe file")
    include: tuple[str, ...] = Field(("*",), description="file name patterns to take")
    exclude: tuple[str, ...] = Field((".*", "~$*", "Thumbs.db"), description="file name patterns to leave out")
    licence: str | None = Field(
        None, description="licence or terms under which you may use these documents; kept with each of them"
    )
    max_file_mb: float = Field(50, gt=0, description="larger files are rejected")
    max_unpacked_mb: float = Field(400, gt=0, description="Office files that unpack to more are rejected as zip bombs")
    timeout_seconds: float = Field(60, gt=0, description="longest time to read one file")
    memory_mb: int = Field(2048, ge=256, description="most memory the reading process may take")

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings without the place of the sources: their content counts, not their path."""
        return self.model_dump(mode="json", exclude={"sources", "timeout_seconds", "memory_mb"})
