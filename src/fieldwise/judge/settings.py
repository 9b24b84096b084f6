"""Who judges, and by which rule of the user's own besides."""

from __future__ import annotations

from pydantic import Field, JsonValue

from fieldwise.llm.settings import EndpointSettings
from fieldwise.settings import Settings


class JudgeSettings(Settings):
    """A model that judges: nothing is sent to any endpoint that is not named here or on the command line."""

    endpoint: EndpointSettings = EndpointSettings()
    rule: str = Field(
        "",
        max_length=2000,
        description="a rule of your own that an answer must meet besides being borne out by its sources, in plain words",
    )

    def keyed(self) -> dict[str, JsonValue]:
        """Return what shapes the verdicts."""
        return {**self.model_dump(mode="json", exclude={"endpoint"}), "endpoint": self.endpoint.keyed()}
