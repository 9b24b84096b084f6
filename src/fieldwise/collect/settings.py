"""What to collect and within which limits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, JsonValue, Tag, field_validator, model_validator

from fieldwise.settings import Settings

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")
_DATASET = re.compile(r"[\w][\w.-]*(?:/[\w][\w.-]*)?")
_WEB_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def is_url(source: str) -> bool:
    """Return whether a source is an address to fetch and not a place on this machine."""
    return _WEB_SCHEME.match(source) is not None


def is_other_scheme(source: str) -> bool:
    """Return whether a source is an address of a kind that is not fetched, such as ftp://."""
    return _SCHEME.match(source) is not None and not is_url(source)


def without_password(url: str) -> str:
    """Return an address as it may be shown: a user name and password are taken out.

    >>> without_password("https://me:secret@a.example/b@c")
    'https://a.example/b@c'
    """
    return _PASSWORD.sub("", url)


class WebSource(Settings):
    """Pages and files of the web: a list of addresses, a sitemap, or what a search finds."""

    urls: str | None = Field(None, description="text file with one address a line; relative to the recipe file")
    sitemap: str | None = Field(None, description="address of a sitemap, whose pages are taken")
    search: str | None = Field(None, description="a query, which is sent to the search service; its hits are taken")
    service: Literal["serpapi"] = Field(
        "serpapi", description="who answers the query; the key stands in the environment variable SERPAPI_API_KEY"
    )
    limit: int | None = Field(
        None, gt=0, le=100_000, description="most addresses to take; unless set 20 of a search, 1000 of a sitemap"
    )
    pdf_only: bool = Field(False, description="take PDF files alone")
    include: tuple[str, ...] = Field(("*",), description="patterns of the addresses to take, such as */guides/*")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        named = [name for name in ("urls", "sitemap", "search") if getattr(self, name) is not None]
        if len(named) != 1:
            known = "urls, sitemap and search" if named else "urls, sitemap, search, rows and dataset"
            raise ValueError(f"name one of {known}, found {' and '.join(named) or 'none'}")
        if self.sitemap is not None and not is_url(self.sitemap):
            raise ValueError("a sitemap begins with http:// or https://")
        if self.search is not None and not self.search.strip():
            raise ValueError("the query is empty")
        return self

    @property
    def label(self) -> str:
        """The source in a few words, as it stands in messages and rejections."""
        if self.search is not None:
            return f"search: {self.search}"
        return f"sitemap: {without_password(self.sitemap)}" if self.sitemap is not None else f"urls: {self.urls}"


class RowColumns(Settings):
    """Which column of a data set says what; once one is named here, only the text may still be guessed."""

    text: tuple[str, ...] = Field(
        (), description="one column or a list whose texts follow each other; a.b is b inside of a"
    )
    title: str | None = Field(None, description="column of the title")
    date: str | None = Field(None, description="column of the date, kept as it stands")
    licence: str | None = Field(None, description="column of the licence of the row")
    id: str | None = Field(None, description="column of names that stay when rows move; else the line is the name")

    @field_validator("text", mode="before")
    @classmethod
    def _may_be_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def are_named(self) -> bool:
        """Whether the recipe names any column."""
        return self != RowColumns()


class RowsSource(Settings):
    """Rows of a data set as documents: files of this machine, or a data set of the Hugging Face hub."""

    rows: str | None = Field(
        None,
        description="JSON, JSONL, CSV or Parquet file, a folder or pattern of such; relative to the recipe file",
    )
    dataset: str | None = Field(
        None, description="Hugging Face data set such as owner/name; from the hub unless the cache holds it"
    )
    config: str | None = Field(None, description="configuration of the data set, where it has several")
    split: str | None = Field(None, description="split of the data set; needed where it has several")
    revision: str | None = Field(
        None, description="commit or tag of the data set; name one for a run that can be repeated"
    )
    columns: RowColumns = RowColumns()
    markup: Literal["plain", "markdown", "html"] = Field("plain", description="what the texts are written in")
    limit: int | None = Field(None, gt=0, description="most documents to take; unless set all rows")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.rows is None) == (self.dataset is None):
            raise ValueError(f"name one of rows and dataset, found {'none' if self.rows is None else 'both'}")
        if self.rows is not None:
            if named := [name for name in ("config", "split", "revision") if getattr(self, name) is not None]:
                raise ValueError(f"files have no {named[0]}; name the file of the split you want")
            if is_url(self.rows) or is_other_scheme(self.rows):
                raise ValueError("rows names files of this machine; download the file, or name a dataset")
        if self.dataset is not None and not _DATASET.fullmatch(self.dataset):
            raise ValueError("a data set of the hub is written owner/name; files are named with rows")
        return self

    @property
    def label(self) -> str:
        """The source in a few words, as it stands in messages and rejections."""
        if self.rows is not None:
            return f"rows: {self.rows}"
        return "dataset: " + " ".join(part for part in (self.dataset, self.config, self.split) if part)

    def keyed(self) -> dict[str, JsonValue]:
        """Return the source without the place of its files: their content counts, not their path."""
        return self.model_dump(mode="json", exclude={"rows"})


def _kind(value: Any) -> str:
    """One kind alone is checked, so that a mistake in a mapping is not reported as "expected text" as well."""
    if isinstance(value, RowsSource) or (isinstance(value, dict) and {"rows", "dataset"} & set(value)):
        return "RowsSource"
    return "WebSource" if isinstance(value, dict | WebSource) else "place"


SourceSetting = Annotated[
    Annotated[str, Tag("place")] | Annotated[WebSource, Tag("WebSource")] | Annotated[RowsSource, Tag("RowsSource")],
    Discriminator(_kind),
]
"""The tags are the names of the classes: by them a problem is told with the keys of its kind."""


class WebSettings(Settings):
    """How addresses are fetched; nothing is fetched that `collect.sources` does not name."""

    allow_private: tuple[str, ...] = Field(
        (), description="hosts of your own network that may be fetched from, such as intranet.example"
    )
    delay_seconds: float = Field(
        1.0, ge=0, description="pause between two requests to a host; its robots.txt may ask for more"
    )
    timeout_seconds: float = Field(120, gt=0, description="longest time to fetch one address")
    read_timeout_seconds: float = Field(20, gt=0, description="longest silence of a server")
    max_wait_seconds: float = Field(
        60, ge=0, description="longest pause a server may ask for; with more its pages are rejected"
    )
    max_age_hours: float = Field(
        24, ge=0, description="what was fetched within this time is not asked for again; 0 always asks"
    )
    ca_file: str | None = Field(
        None, description="certificates to trust besides the usual ones (PEM); relative to the recipe file"
    )
    search_url: str = Field("https://serpapi.com/search.json", description="where the search service answers")

    @field_validator("search_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not is_url(value):
            raise ValueError("an address begins with http:// or https://")
        return value

    def keyed(self) -> dict[str, JsonValue]:
        """Return what decides which addresses can be fetched; waits and limits of time do not shape what comes."""
        return {"allow_private": list(self.allow_private)}


class DoclingSettings(Settings):
    """Where docling and its models are, and what its process may take; nothing is downloaded."""

    models: str | None = Field(
        None,
        description="folder of its models (docling-tools models download layout tableformer); relative to the recipe file",
    )
    python: str | None = Field(
        None,
        description="python of the environment that holds docling; unless set this one. Relative to the recipe file",
    )
    memory_mb: int = Field(8192, ge=1024, description="most memory the process with the models may take")
    timeout_seconds: float = Field(600, gt=0, description="longest time to read one file")


XmlRole = Literal["title", "section", "label", "heading", "paragraph", "item", "table", "row", "cell", "skip"]


class XmlSettings(Settings):
    """What the elements of XML files are; without any named XML files are not read."""

    elements: dict[str, XmlRole] = Field(
        {},
        description="role of each element by its name without namespace: title, section (its headings stand one level deeper), label (a number before what follows), heading, paragraph, item, table, row, cell, skip; the words of others are paragraphs",
    )


class CollectSettings(Settings):
    """Sources and limits of the collect stage."""

    sources: tuple[SourceSetting, ...] = Field(
        (),
        description="folders, files or glob patterns, relative to the recipe file; http(s) addresses; lists, sitemaps and searches; rows of data sets",
    )
    include: tuple[str, ...] = Field(("*",), description="file name patterns to take")
    exclude: tuple[str, ...] = Field((".*", "~$*", "Thumbs.db"), description="file name patterns to leave out")
    licence: str | None = Field(
        None, description="licence or terms under which you may use these documents; kept with each of them"
    )
    ocr: Literal["auto", "on", "off"] = Field(
        "auto",
        description="recognise the text of pictures and of pages without a text layer; auto: where fieldwise[ocr] is installed",
    )
    layout: Literal["pdfium", "docling"] = Field(
        "pdfium", description="how PDF files are understood: by pdfium and rules, or by the models of docling"
    )
    docling: DoclingSettings = DoclingSettings()
    xml: XmlSettings = XmlSettings()
    max_file_mb: float = Field(50, gt=0, description="larger files are rejected")
    max_unpacked_mb: float = Field(400, gt=0, description="Office files that unpack to more are rejected as zip bombs")
    timeout_seconds: float = Field(
        60, gt=0, description="longest time to read one file; of pages that are recognised, each"
    )
    memory_mb: int = Field(2048, ge=256, description="most memory the reading process may take")
    web: WebSettings = WebSettings()

    @field_validator("ocr", mode="before")
    @classmethod
    def _may_be_a_truth(cls, value: Any) -> Any:
        """YAML reads on and off as true and false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings without the place of the sources: their content counts, not their path.

        Whether text is recognised, and by which models pages are understood, depends on what is installed, and stands
        beside the content.
        """
        apart = {"sources", "timeout_seconds", "memory_mb", "web", "ocr", "layout", "docling", "xml"}
        keyed = self.model_dump(mode="json", exclude=apart)
        xml: dict[str, JsonValue] = {"xml": self.xml.model_dump(mode="json")} if self.xml.elements else {}
        return {**keyed, **xml, "web": self.web.keyed()}

    @property
    def places(self) -> tuple[str, ...]:
        """The sources on this machine."""
        return tuple(s for s in self.sources if isinstance(s, str) and not is_url(s))

    @property
    def row_sources(self) -> tuple[RowsSource, ...]:
        """The sources whose rows are documents."""
        return tuple(s for s in self.sources if isinstance(s, RowsSource))

    @property
    def labels(self) -> tuple[str, ...]:
        """All sources in a few words each."""
        return tuple(without_password(s) if isinstance(s, str) else s.label for s in self.sources)
