"""Rows of a Hugging Face data set: from the hub that the recipe names, or from the cache of an earlier time.

The library `datasets` is imported here and only when a recipe names a data set. It keeps what it fetched in its own
cache (HF_HOME), reads it from disk as it streams, and asks nobody when HF_HUB_OFFLINE is set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.collect.settings import RowsSource
from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.rows.reading import Read, Row

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_FOUND_CHARS = 300


class HubRows(NamedTuple):
    """A split of a data set: its name in uris, the commit where it is known, and the licence its card states."""

    name: str
    rows: Any
    commit: str | None
    licence: str | None

    def read(self) -> Iterator[Read]:
        """Yield the rows, numbered from 1."""
        for number, values in enumerate(self.rows, 1):
            yield Row(number, values)


def open_hub_rows(source: RowsSource) -> HubRows:
    """Return the rows of a data set of the hub; raises DatasetError when it cannot be had or has several splits."""
    assert source.dataset is not None
    if Path(source.dataset).exists():  # the library would take it for the data set
        raise DatasetError(
            "a file or folder here has the name of the data set",
            where=f"collect.sources: {source.label}",
            found=Path(source.dataset).absolute(),
            fix="Start the command in another folder, or name the files with rows.",
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read by the library when it is imported
    datasets: Any = require("datasets", extra="hub", to="take data sets of the Hugging Face hub")
    try:
        loaded = datasets.load_dataset(
            source.dataset,
            source.config,
            split=source.split,
            revision=source.revision,
            token=os.environ.get("HF_TOKEN"),
        )
    except Exception as error:  # the libraries of the hub raise many kinds; each means that there are no rows
        raise _cannot_be_had(error, source) from error
    if hasattr(loaded, "keys"):
        splits = list(loaded)
        if len(splits) != 1:
            raise DatasetError(
                "the data set has several splits",
                where=f"collect.sources: {source.label}",
                found=", ".join(splits),
                fix=f"Name one: {{dataset: {source.dataset}, split: {splits[0]}}}. For several name the data set again.",
            )
        loaded = loaded[splits[0]]
    commit = _commit(loaded)
    if _COMMIT.fullmatch(source.revision or "") and commit != source.revision:
        raise DatasetError(
            "the cache holds another revision of the data set",
            where=f"collect.sources: {source.label}",
            found=commit,
            fix="Run once with a network, so that the wanted one can be fetched.",
        )
    name = "/".join(["hf:", "", source.dataset, str(loaded.info.config_name or "default"), str(loaded.split)])
    return HubRows(name, loaded, commit, str(loaded.info.license or "") or _licence(source.dataset, commit))


def _commit(loaded: Any) -> str | None:
    """The commit of the data set: the library names the folder of its cache after it."""
    for file in loaded.cache_files:
        for part in reversed(Path(file["filename"]).parts):
            if _COMMIT.fullmatch(part):
                return part
    return None


def _licence(dataset: str, commit: str | None) -> str | None:
    """What the card of the data set states; the library has fetched the card with the rows."""
    hub: Any = require("huggingface_hub", extra="hub", to="take data sets of the Hugging Face hub")
    card = hub.try_to_load_from_cache(dataset, "README.md", revision=commit, repo_type="dataset")
    if not isinstance(card, str):
        return None
    try:
        stated = hub.DatasetCard.load(card, ignore_metadata_errors=True).data.get("license")
    except (ValueError, OSError):
        return None
    return ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated) if stated else None


def _cannot_be_had(error: Exception, source: RowsSource) -> DatasetError:
    told = " ".join(str(error).split())
    where = f"collect.sources: {source.label}"
    if isinstance(error, ValueError) and "onfig" in told:
        what, fix = "the data set has no such configuration", "Name one of these with config."
    elif isinstance(error, ValueError) and "split" in told:
        what, fix = "the data set has no such split", "Name one of these with split."
    elif type(error).__name__ == "DatasetNotFoundError":
        what = "the data set is not there, or not for everybody"
        fix = "Check name and revision; for one that asks for consent give it on its page and set HF_TOKEN."
    elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        what = "the data set is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"
        fix = "Run once without HF_HUB_OFFLINE, or get its files another way and name them with rows."
    else:
        what = "the data set cannot be had"
        fix = "Check the name and the network, or get its files another way and name them with rows."
    return DatasetError(what, where=where, found=f"{type(error).__name__}: {told[:_MAX_FOUND_CHARS]}", fix=fix)
