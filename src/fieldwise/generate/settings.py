"""What training data is made from the chunks."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Discriminator, Field, JsonValue, Tag, field_validator, model_validator

from fieldwise.judge.settings import JudgeSettings
from fieldwise.llm.settings import EndpointSettings
from fieldwise.rows.formats import FIELDS
from fieldwise.settings import Settings

KindName = Literal[
    "question_answer",
    "unanswerable",
    "summary",
    "extraction",
    "instruction",
    "comparison",
    "explanation",
    "multi_turn",
    "tool_call",
    "hard_negative",
]
KINDS: tuple[KindName, ...] = get_args(KindName)
QUESTION_KINDS: tuple[KindName, ...] = ("question_answer", "unanswerable")
"""What is made unless a recipe asks for other kinds."""


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


class PairJudgeSettings(JudgeSettings):
    """A model that judges every pair made from the documents against its passage, after the checks."""

    undecided: Literal["aside", "keep"] = Field(
        "aside",
        description="what becomes of pairs of which the judge cannot tell, or whose verdict cannot be read: aside puts them into rejected.jsonl",
    )


PreferenceKind = Literal[
    "closed_book", "altered_number", "altered_date", "altered_unit", "flipped_negation", "uncited", "wrong_citation",
    "wrong_passage", "invalid_json", "invalid_tool_call", "over_compliance", "over_refusal", "unstated",
]  # fmt: skip
"""What is wrong with the rejected reply of a preference pair; generate/preference_kinds.py makes and proves each."""


def _form(value: Any) -> str:
    return "shares" if isinstance(value, dict) else "kinds"


PreferenceSetting = Annotated[
    Annotated[dict[PreferenceKind, float], Tag("shares")] | Annotated[tuple[PreferenceKind, ...], Tag("kinds")],
    Discriminator(_form),
]


class SampledEndpointSettings(EndpointSettings):
    """An endpoint that is asked the same thing several times: at temperature 0 all replies would be one."""

    temperature: float | None = Field(0.8, gt=0, le=2, description="null leaves it to the endpoint")
    max_tokens: int = Field(200, ge=16, description="most tokens of one reply")


class CandidateSettings(Settings):
    """Replies of a model to training questions, ranked by rules: best against worst. Off unless prompts is set."""

    prompts: int = Field(
        0, ge=0, description="how many training questions over passages a model is asked; 0 asks nothing"
    )
    samples: int = Field(4, ge=2, le=16, description="replies sampled to each question")
    margin: float = Field(
        2, ge=1, description="how much worse the rejected reply must be; docs/train.md says what each fault weighs"
    )
    endpoint: SampledEndpointSettings = SampledEndpointSettings()
    judge: JudgeSettings | None = Field(
        None,
        description="a model that judges every reply against its passages beside the rules: it finds what they cannot, and decides where other words are no fault",
    )

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.prompts and (self.endpoint.base_url is None or self.endpoint.model is None):
            raise ValueError(
                "candidates need endpoint.base_url and endpoint.model, such as fieldwise serve of an earlier run: "
                "nothing is sent anywhere that the recipe does not name"
            )
        return self


EvolutionKind = Literal["paraphrase", "constrain", "deepen", "concretise", "reason", "broaden"]
EVOLUTIONS: tuple[EvolutionKind, ...] = get_args(EvolutionKind)
RULE_EVOLUTIONS: tuple[EvolutionKind, ...] = ("paraphrase", "constrain")
"""What the rules can do without a model."""


class EvolutionSettings(Settings):
    """Questions made from the questions there are: in other words, narrower, deeper, concreter, reasoned, broader."""

    kinds: tuple[EvolutionKind, ...] = Field(
        ("paraphrase",), min_length=1, description="how questions are evolved; rules know paraphrase and constrain"
    )
    per_question: int = Field(1, ge=1, le=len(EVOLUTIONS), description="most evolutions of one question")
    share: float = Field(1.0, gt=0, le=1, description="share of the questions that are evolved")
    splits: tuple[Literal["train", "validation", "test"], ...] = Field(
        ("train",), min_length=1, description="sides whose questions are evolved; each stays on its own"
    )
    teacher: Literal["rules", "openai", "fake"] | None = Field(
        None, description="who evolves them; null takes generate.teacher, openai is asked at generate.endpoint"
    )

    @field_validator("kinds", "splits", mode="before")
    @classmethod
    def _takes_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


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
    named_subjects: bool = Field(
        False,
        description="the rules put the title of the document before a question that does not speak of it; for collections in which each document is about another thing",
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
    kinds: dict[KindName, int | float | None] = Field(
        dict.fromkeys(QUESTION_KINDS),
        description="kinds of examples: a list, or kind: limit, where 0.2 is at most that share of all examples, 200 at most so many, null no limit",
    )
    tools: str | None = Field(
        None,
        description="JSON or YAML file of tools in OpenAI's format, which the kind tool_call calls; relative to the recipe file",
    )
    preference_pairs: int = Field(240, ge=0, description="most preference pairs made by rules")
    preferences: PreferenceSetting | None = Field(
        None,
        description="kinds of preference pairs as docs/train.md names them, in a list or each with its share; null makes six kinds in equal parts",
    )
    votes: str | None = Field(
        None,
        description="file of pairs that people voted for, as votes --export writes it; relative to the recipe file",
    )
    candidates: CandidateSettings = CandidateSettings()
    data: tuple[DataSetting, ...] = Field(
        (), description="files or folders of rows to train on, beside the examples made from the documents"
    )
    from_documents: bool = Field(
        True, description="make examples from the documents; false trains on the rows of generate.data alone"
    )
    judge: PairJudgeSettings | None = Field(
        None, description="a judge that sees each pair with its passage; what it finds wrong is left out"
    )
    evolutions: EvolutionSettings | None = Field(
        None, description="questions made from those that the documents gave, with the same evidence; off unless named"
    )
    review: tuple[str, ...] = Field(
        (),
        description="the review sheet come back (CSV of `fieldwise review`, or review.csv of 3_examples), or several in the order in which they were written; relative to the recipe file",
    )
    split: SplitSettings = SplitSettings()

    @field_validator("review", mode="before")
    @classmethod
    def _takes_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("preferences")
    @classmethod
    def _are_shares(cls, value: Any) -> Any:
        if value is None:
            return value
        if not value:
            raise ValueError("names no kind; for no pairs at all set preference_pairs: 0")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError("names a kind twice")
        if isinstance(value, dict):
            wrong = next((kind for kind, share in value.items() if not 0 < share <= 1), None)
            if wrong is not None:
                raise ValueError(f"a share lies between 0 and 1, that of {wrong} is {value[wrong]:g}")
            if sum(value.values()) > 1 + 1e-6:
                raise ValueError(f"shares must add up to 1 at most, found {sum(value.values()):g}")
        return value

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

    @field_validator("kinds", mode="before")
    @classmethod
    def _names_kinds(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple | dict):
            return value
        for name in names:
            if name not in KINDS:
                near = difflib.get_close_matches(str(name), KINDS, n=1, cutoff=0.5)
                meant = f"Did you mean {near[0]}? " if near else ""
                raise ValueError(f"there is no kind {name!r}. {meant}Kinds: {', '.join(KINDS)}")
        if not names:
            raise ValueError(f"names no kind. Kinds: {', '.join(KINDS)}")
        if not isinstance(names, dict):
            return dict.fromkeys(names)
        for name, limit in names.items():
            is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if limit is not None and not (is_number and (limit > 0 if isinstance(limit, int) else 0 < limit <= 1)):
                raise ValueError(
                    f"{name}: expected a share such as 0.2, a whole number from 1, or null; found {limit!r}"
                )
        return names

    @model_validator(mode="after")
    def _has_tools_to_call(self) -> Self:
        if "tool_call" in self.kinds and self.tools is None:
            raise ValueError("the kind tool_call needs generate.tools, a file of tools to call")
        if sum(limit for limit in self.kinds.values() if isinstance(limit, float)) > 1 + 1e-6:
            raise ValueError("the shares of generate.kinds add up to more than 1")
        return self

    @model_validator(mode="after")
    def _can_evolve(self) -> Self:
        if self.evolutions is None:
            return self
        beyond = [k for k in self.evolutions.kinds if k not in RULE_EVOLUTIONS]
        if self.evolver == "rules" and beyond:
            raise ValueError(
                f"evolutions: the rules cannot {beyond[0]}, which needs a model: set evolutions.teacher: openai with an "
                f"endpoint, or take kinds among {', '.join(RULE_EVOLUTIONS)}"
            )
        if not self.from_documents:
            raise ValueError("evolutions are made of the documents' questions: from_documents: false leaves none")
        return self

    @property
    def evolver(self) -> str:
        """Who evolves questions."""
        return (self.evolutions.teacher if self.evolutions is not None else None) or self.teacher

    @property
    def asks_endpoint(self) -> bool:
        """Whether `endpoint` is asked for questions or for their evolutions."""
        return "openai" in (self.teacher, self.evolver)

    @property
    def further_kinds(self) -> tuple[KindName, ...]:
        """The kinds beside questions and answers, in the order of a curriculum."""
        return tuple(kind for kind in KINDS if kind in self.kinds and kind not in QUESTION_KINDS)

    @property
    def asks_for_kinds(self) -> bool:
        """Whether `kinds` says anything but the default."""
        return self.kinds != dict.fromkeys(QUESTION_KINDS)

    @property
    def for_questions(self) -> Self:
        """The same, with no question to decline where `kinds` leaves these out."""
        without = {"unanswerable_share": 0.0, "invented_share": 0.0}
        return self if "unanswerable" in self.kinds else self.model_copy(update=without)

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
        new = {
            "preferences",
            "votes",
            "candidates",
            "judge",
            "evolutions",
            "review",
            "named_subjects",
        }  # enter the key where they are used
        keyed = self.model_dump(mode="json", exclude={"data", "endpoint", "tools", *new})
        if self.named_subjects:
            keyed["named_subjects"] = True
        if self.preferences is not None:
            keyed["preferences"] = self.model_dump(mode="json", include={"preferences"})["preferences"]
        if self.candidates.prompts:
            asked = self.candidates.model_dump(mode="json", exclude={"endpoint", "judge"})
            keyed["candidates"] = {**asked, "endpoint": self.candidates.endpoint.keyed()}
            if self.candidates.judge is not None:
                keyed["candidates"]["judge"] = self.candidates.judge.keyed()
        if self.evolutions is not None:
            keyed["evolutions"] = self.evolutions.model_dump(mode="json")
        if self.asks_endpoint:
            keyed["endpoint"] = self.endpoint.keyed()
        if self.judge is not None:
            keyed["judge"] = self.judge.keyed()
        sets = {name: e.model_dump(mode="json", exclude={"path"}) for name, e in self.data_sets.items()}
        return {**keyed, "data": sets}
