"""What training data is made from the chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, JsonValue, Tag, field_validator, model_validator

from fieldwise.llm.settings import EndpointSettings
from fieldwise.rows.formats import FIELDS
from fieldwise.settings import Settings


class SplitSettings(Settings):
    """Shares of documents, and of the rows of generate.data, on each side; near-duplicates stay together."""

    train: float = Field(0.8, gt=0, lt=1)
    validation: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError(f"shares must add up to 1, found {self.train + self.validation + self.test:g}")
        return self


class DataSettings(Settings):
    """Rows of your own: a file or folder in one of the formats of docs/data.md."""

    path: str = Field(description="file or folder of rows; relative to the recipe file")
    column_mapping: dict[str, str] = Field(
        {}, description="field: column, such as {question: frage, answer: antwort}; needed where names do not tell"
    )
    split: Literal["auto", "train", "validation", "test"] = Field(
        "auto",
        description="auto keeps the splits that files or folders are named after and makes those that are missing; the others put every row on one side",
    )
    licence: str | None = Field(None, description="terms under which you may train on these rows; kept in the card")

    @field_validator("column_mapping")
    @classmethod
    def _names_fields(cls, value: dict[str, str]) -> dict[str, str]:
        for field, column in value.items():
            if field not in FIELDS:
                turned = f" Did you mean {{{column}: {field}}}?" if column in FIELDS else ""
                raise ValueError(f"no format has a field {field!r}; there are: {', '.join(FIELDS)}.{turned}")
        return value


def _kind(value: Any) -> str:
    """One kind alone is checked, so that a mistake in a mapping is not reported as "expected text" as well."""
    return "rows" if isinstance(value, dict | DataSettings) else "place"


DataSetting = Annotated[Annotated[str, Tag("place")] | Annotated[DataSettings, Tag("rows")], Discriminator(_kind)]


class GenerateSettings(Settings):
    """Settings of the generate stage."""

    teacher: Literal["rules", "openai", "fake"] = Field(
        "rules",
        description="who writes questions and answers: rules needs no model, openai is any OpenAI-compatible endpoint, fake stands in for one in tests",
    )
    endpoint: EndpointSettings = EndpointSettings()
    wide_questions: bool = Field(
        False,
        description="the rules also ask what something includes, causes or is used for, why and how it is done, how things compare, and for amounts, changes and dates",
    )
    max_per_chunk: int = Field(10, ge=1, description="most question-answer pairs from one chunk")
    grounded_share: float = Field(
        0.6, ge=0, le=1, description="share of examples that show passages, as retrieval will"
    )
    distractors: int = Field(2, ge=0, le=8, description="other passages shown beside the evidence")
    unanswerable_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of examples over passages that these do not answer, so that declining is right",
    )
    invented_share: float = Field(
        0.05, ge=0, le=0.5, description="share of examples without passages that ask about a thing of an invented name"
    )
    preference_pairs: int = Field(240, ge=0, description="most preference pairs")
    data: tuple[DataSetting, ...] = Field(
        (), description="files or folders of rows to train on, beside the examples made from the documents"
    )
    from_documents: bool = Field(
        True, description="make examples from the documents; false trains on the rows of generate.data alone"
    )
    split: SplitSettings = SplitSettings()

    @property
    def data_sets(self) -> dict[str, DataSettings]:
        """The sets of `data` by the names their rows are known by: file or folder name, with what tells two apart."""
        entries = [DataSettings(path=d) if isinstance(d, str) else d for d in self.data]
        parts = [Path(e.path).parts for e in entries]
        for length in range(1, max(map(len, parts), default=0) + 1):
            names = ["/".join(p[-length:]).lstrip("/") for p in parts]
            if len(set(names)) == len(names):
                return dict(zip(names, entries, strict=True))
        return {e.path: e for e in entries}

    @model_validator(mode="after")
    def _has_something_to_train_on(self) -> Self:
        if not self.from_documents and not self.data:
            raise ValueError("from_documents: false leaves nothing to train on without generate.data")
        paths = [e.path for e in self.data_sets.values()]
        if len(paths) < len(self.data):
            raise ValueError("generate.data names the same place twice")
        return self

    def keyed(self) -> dict[str, JsonValue]:
        """Return what shapes the examples: of the endpoint what shapes its replies, of rows their names, not their places."""
        keyed = self.model_dump(mode="json", exclude={"data", "endpoint"})
        if self.teacher == "openai":
            keyed["endpoint"] = self.endpoint.keyed()
        sets = {name: e.model_dump(mode="json", exclude={"path"}) for name, e in self.data_sets.items()}
        return {**keyed, "data": sets}
