"""What a search must be, in the same words for every store."""

from __future__ import annotations

from fieldwise.errors import DatasetError
from fieldwise.store.protocol import Identity

MAX_QUERY_CHARS = 4000


def checked_query(query: str, count: int) -> str:
    """Return the text to search with, cut and without half signs; raises DatasetError for what is no search."""
    if not isinstance(query, str) or count < 1:
        raise DatasetError("a search needs a text and how many hits are wanted", found=f"{query!r:.40}, {count}")
    return query[:MAX_QUERY_CHARS].encode("utf-8", "replace").decode("utf-8").strip()


def sees_nothing(identity: Identity) -> bool:
    """Return whether this is nobody: no identity at all, or one without groups or a tenant."""
    return not isinstance(identity, Identity) or not identity.groups or not identity.tenant
