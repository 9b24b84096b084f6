"""How documents are cleaned, cut into chunks and filtered."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from fieldwise.settings import Settings


class CleanSettings(Settings):
    """What is taken out of the text before it is cut."""

    repeated_lines: bool = Field(True, description="drop headers and footers that stand on most pages")
    page_numbers: bool = Field(True, description="drop lines that hold nothing but a page number")
    hyphenation: bool = Field(True, description="join words broken at a line end")
    mojibake: bool = Field(True, description="repair text that was decoded with the wrong table")


class ChunkSettings(Settings):
    """Sizes of chunks in tokens of the base model."""

    min_tokens: int = Field(24, ge=1, description="smaller pieces are joined to a neighbour under the same heading")
    target_tokens: int = Field(150, ge=16, description="chunks grow to about this size")
    max_tokens: int = Field(220, ge=32, description="no chunk is larger, except a table row that cannot be cut")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min_tokens < self.target_tokens <= self.max_tokens:
            raise ValueError(
                f"sizes must rise: min_tokens {self.min_tokens} < target_tokens {self.target_tokens} <= max_tokens {self.max_tokens}"
            )
        return self


class DuplicateSettings(Settings):
    """When two documents or chunks count as the same."""

    near_threshold: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity of word shingles from which two documents are near-duplicates"
    )
    shingle_words: int = Field(3, ge=1, le=8, description="words in a shingle")
    drop_near: bool = Field(
        False, description="drop near-duplicate documents; otherwise they are kept together on one side of the split"
    )


class PrepareSettings(Settings):
    """Settings of the prepare stage."""

    clean: CleanSettings = CleanSettings()
    chunk: ChunkSettings = ChunkSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    languages: tuple[str, ...] = Field((), description="ISO 639-1 codes to keep; empty keeps all")
    min_document_chars: int = Field(40, ge=0, description="shorter documents are rejected")
