"""What an entry must be before it is stored, as the row of a document; fields, vectors and models are checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, ModelError
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.store.filters import BUILT_IN, FieldType, as_day, is_number, storable
from fieldwise.store.protocol import Entry, FieldValue, as_groups

_MAX_FIELDS = 100


def field_type(name: str, value: FieldValue) -> FieldType:
    """Return the type a value gives its field; raises DatasetError for what cannot be one."""
    if not isinstance(name, str) or not name.strip() or len(name) > 200:
        raise DatasetError("a field needs a name of 1 to 200 characters", found=repr(name)[:80])
    if name in BUILT_IN:
        raise DatasetError(f"every document has its own {name!r}", fix="Give the field another name.")
    storable(name, "the name of a field")
    if isinstance(value, bool):
        return "truth"
    if is_number(value):
        return "number"
    if isinstance(value, str):
        storable(value, f"the field {name!r}")
        return "text"
    if isinstance(value, tuple | list) and all(isinstance(v, str) and storable(v, name) for v in value):
        return "texts"
    raise DatasetError(
        f"the field {name!r} must be a text, a list of texts, a number or true or false", found=repr(value)[:80]
    )


def with_types_of(entry: Entry, known: Mapping[str, FieldType]) -> dict[str, FieldType]:
    """Return the types of a tenant's fields with those of an entry; raises DatasetError for one that has another."""
    types = dict(known)
    for name, value in entry.fields.items():
        kind = field_type(name, value)
        if types.setdefault(name, kind) != kind:
            raise DatasetError(
                f"the field {name!r} holds {types[name]} in other documents",
                where=entry.document.source.uri,
                found=repr(value)[:80],
                fix="Give it another name, or the same type everywhere.",
            )
    return types


def checked_row(entry: Entry) -> dict[str, Any]:
    """Return the row of a document; raises DatasetError for an entry that cannot be stored."""
    document, uri = entry.document, entry.document.source.uri
    groups = as_groups(entry.groups)
    if not groups:
        raise DatasetError(
            "the document names no access group, so nobody could find it",
            where=uri,
            fix="Name its groups, or 'everyone' if all readers of the tenant carry that group.",
        )
    if not entry.tenant or not uri:
        raise DatasetError("a document needs a tenant and a uri", where=uri, found=repr(entry.tenant)[:80])
    if entry.valid_from and entry.valid_until and entry.valid_until < entry.valid_from:
        raise DatasetError(
            "the document ends before it is valid", where=uri, found=f"{entry.valid_from} to {entry.valid_until}"
        )
    if len(entry.fields) > _MAX_FIELDS:
        raise DatasetError(f"more than {_MAX_FIELDS} fields", where=uri, found=len(entry.fields))
    for name, value in entry.fields.items():
        field_type(name, value)
    if len({c.id for c in entry.chunks}) != len(entry.chunks):
        raise DatasetError("two chunks of the document have the same id", where=uri)
    for text in (*groups, entry.tenant, uri, document.id, document.title, document.language, document.source.licence):
        storable(text or "", uri)
    storable(document.text.replace("\0", " "), uri)
    for chunk in entry.chunks:
        if chunk.document_id != document.id or document.text[chunk.start : chunk.end] != chunk.text:
            raise DatasetError(
                "the chunk is no part of the document", where=uri, found=chunk.id, fix="Cut the document again."
            )
        storable("\n".join((chunk.id, chunk.title, *chunk.heading_path)), uri)
    structure = document.model_dump(mode="json", exclude={"text"})
    row: dict[str, Any] = {
        "id": document.id,
        "tenant": entry.tenant,
        "uri": uri,
        "title": document.title,
        "language": document.language,
        "licence": document.source.licence,
        "valid_from": as_day(entry.valid_from),
        "valid_until": as_day(entry.valid_until),
        "fields": canonical_json(dict(entry.fields)),
        "structure": canonical_json(structure),
        "text": document.text,
    }
    chunks = [chunk.model_dump(mode="json") for chunk in entry.chunks]
    row["content"] = sha256_text(canonical_json([row, sorted(groups), chunks]))
    return row


def as_unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of length 1; one without direction or with a number that is none is refused."""
    values = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(values.astype(np.float64), axis=-1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise ModelError(
            "a vector is zero or holds what is no number", fix="Look at the text it was made from and at the model."
        )
    unit: NDArray[np.float32] = (values / lengths).astype(np.float32)
    return unit


def other_model(used: str, found: str, where: object) -> ModelError:
    """Return the error that says that two models do not mix."""
    return ModelError(
        f"the vectors are of another embedding model than the store's {used}",
        where=where,
        found=found,
        fix="Embed with the store's model, or add the vectors of all chunks for the other one and activate it.",
    )
