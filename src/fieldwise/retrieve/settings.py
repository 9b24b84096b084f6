"""How passages are found for a question."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from fieldwise.hashing import sha256_file
from fieldwise.settings import Settings

_STEMMERS = (
    "arabic danish dutch english finnish french german greek hungarian italian norwegian portuguese romanian russian "
    "spanish swedish tamil turkish"
).split()

_MODEL_FILES = (".json", ".safetensors", ".bin", ".txt", ".model")


class RetrieveSettings(Settings):
    """Settings of index and search."""

    embedding: Literal["all-MiniLM-L6-v2", "none"] = Field(
        "all-MiniLM-L6-v2", description="embedding model; none searches by words only"
    )
    embedding_model: str | None = Field(
        None,
        description="folder of another embedding model in place of the bundled one, as `fieldwise retrieval train-embedder` makes; relative to the recipe file. Passages are embedded anew",
    )
    dense_weight: float = Field(
        0.4, ge=0, le=1, description="share of the dense score in the fused score (z-scores, convex)"
    )
    candidates: int = Field(50, ge=1, description="hits taken from each leg before fusion")
    top_k: int = Field(3, ge=1, le=9, description="passages shown to the model")
    stemmer: str = Field("english", description="language of the stemmer of the lexical index")
    rerank: Literal["none", "features", "cross-encoder"] = Field(
        "none",
        description="second look at what was found: a small model over features, or a cross-encoder (slow on a CPU)",
    )
    rerank_model: str | None = Field(
        None,
        description="folder of a cross-encoder as sentence-transformers saves it, or a features model made by `fieldwise retrieval learn`; relative to the recipe file. Without it the features model that is shipped",
    )
    rerank_cross_encoder: str | None = Field(
        None, description="folder of a cross-encoder whose score is one more feature of a features model learnt with it"
    )
    rerank_candidates: int = Field(30, ge=2, description="passages, best first, that are looked at again")
    rerank_weight: float = Field(
        0.5, ge=0, le=1, description="share of the reranker's score beside the fused score (z-scores, convex)"
    )
    context_share: float = Field(0.7, gt=0, lt=1, description="most of the model's context that passages may take")
    screen: Literal["mark", "drop", "keep"] = Field(
        "mark",
        description="passages that give orders to a model: mark withholds these sentences from the model, drop the passage, keep shows it as it stands; each is counted and told",
    )

    @field_validator("stemmer")
    @classmethod
    def _has_a_stemmer(cls, language: str) -> str:
        if language not in _STEMMERS:
            raise ValueError(f"there is no stemmer for this language, only for {', '.join(_STEMMERS)}")
        return language

    @model_validator(mode="after")
    def _models_fit(self) -> Self:
        if self.rerank == "cross-encoder" and self.rerank_model is None:
            raise ValueError("rerank cross-encoder needs rerank_model: a folder with its weights")
        if self.rerank_cross_encoder is not None and self.rerank != "features":
            raise ValueError("rerank_cross_encoder is one of the features: it needs rerank features")
        if self.embedding_model is not None and self.embedding == "none":
            raise ValueError("embedding_model is given, but embedding is none")
        return self

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings that shape what is found: a model of a reranker by its content, none where none is asked for."""
        settings = self.model_dump(mode="json", exclude={"rerank_model", "rerank_cross_encoder", "embedding_model"})
        if self.screen == "mark":  # nothing is made anew for a key that stands at its default
            del settings["screen"]
        if self.rerank == "none":
            settings = {name: value for name, value in settings.items() if not name.startswith("rerank")}
        else:
            settings["rerank_model"] = hashes_of(self.rerank_model)
        if self.rerank_cross_encoder is not None:
            settings["rerank_cross_encoder"] = hashes_of(self.rerank_cross_encoder)
        return {**settings, **self.embedded()}

    def embedded(self) -> dict[str, JsonValue]:
        """Return what shapes the vectors; another model by its content."""
        if self.embedding_model is None:
            return {"embedding": self.embedding}
        return {"embedding": self.embedding, "embedding_model": hashes_of(self.embedding_model)}


def hashes_of(name: str | None) -> JsonValue:
    """Return the SHA-256 of each file of a model by its name; None where there is none."""
    place = Path(name) if name else None
    if place is None or not place.exists():
        return None
    files = [place] if place.is_file() else [p for p in sorted(place.iterdir()) if p.suffix in _MODEL_FILES]
    return {p.name: sha256_file(p) for p in files}
