"""Every section of a recipe, named after its room."""

from __future__ import annotations

import yaml
from pydantic import Field

from fieldwise.collect.settings import CollectSettings
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.generate.settings import GenerateSettings
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.release.settings import ReleaseSettings
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.serve.settings import ServeSettings
from fieldwise.settings import Settings
from fieldwise.train.settings import ComputeSettings, TrainSettings


class BaseSettings(Settings):
    """The weights to start from."""

    model: str = Field(
        "fieldwise-nano", description="fieldwise-nano, fieldwise-nano/SIZE, a local folder, or a Hugging Face id"
    )
    revision: str | None = Field(
        None, description="commit or tag of a Hugging Face id; name one for a run that can be repeated"
    )


class Recipe(Settings):
    """Everything a run is told."""

    name: str = Field(
        "fieldwise",
        min_length=1,
        max_length=80,
        pattern=r"^[\w][\w .-]*$",
        description="name of the model this recipe makes",
    )
    domain: str = Field("general", description="field the documents belong to; stands in the model card")
    seed: int = Field(42, ge=0, lt=2**32, description="every random choice starts from it")
    base: BaseSettings = BaseSettings()
    collect: CollectSettings = CollectSettings()
    prepare: PrepareSettings = PrepareSettings()
    retrieve: RetrieveSettings = RetrieveSettings()
    generate: GenerateSettings = GenerateSettings()
    train: TrainSettings = TrainSettings()
    compute: ComputeSettings = ComputeSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    release: ReleaseSettings = ReleaseSettings()
    serve: ServeSettings = ServeSettings()

    def hash(self) -> str:
        """Return the hash of the whole recipe."""
        return sha256_text(canonical_json(self.model_dump(mode="json")))

    def to_yaml(self) -> str:
        """Return the recipe with every default filled in."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100))
