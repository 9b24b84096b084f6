"""Keys of clients, each with the tenant, the access groups and the rights of whoever sends it.

A file of YAML holds the SHA-256 of every key, never the key: whoever reads the file cannot ask with it. It is read
again when it changes, so a key that is taken out stops working with the next request.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import Field, ValidationError

from fieldwise.errors import FieldwiseError
from fieldwise.files import stamp_of
from fieldwise.settings import Settings
from fieldwise.store.protocol import DEFAULT_TENANT, EVERYONE, NOBODY, Identity

log = logging.getLogger(__name__)
Right = Literal["read", "write", "admin"]
RIGHTS: frozenset[Right] = frozenset({"read", "write", "admin"})
_EXAMPLE = "Write a list of {name, sha256, groups, tenant, rights}; `fieldwise store key` makes an entry."
_MAX_BYTES = 1_000_000


class ClientKey(Settings):
    """A line of the file."""

    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    groups: tuple[str, ...] = ()
    tenant: str = Field(DEFAULT_TENANT, min_length=1)
    rights: tuple[Right, ...] = ("read",)


class Caller(NamedTuple):
    """Who asks: what they may see, and what they may do."""

    name: str
    identity: Identity
    rights: frozenset[Right]


STRANGER = Caller("nobody", NOBODY, frozenset())


def owner_with(groups: tuple[str, ...]) -> Caller:
    """Return whoever runs the service: all rights, and the documents of these groups."""
    return Caller("owner", Identity(DEFAULT_TENANT, frozenset(groups)), RIGHTS)


OWNER = owner_with((EVERYONE,))


class KeyRing:
    """The keys of a file."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises FieldwiseError for one that cannot be read as keys."""
        self.path = path
        self._lock = threading.Lock()
        self._stamp, self._callers = self._read()

    def find(self, key: str) -> Caller | None:
        """Return who sends this key. Nobody does as long as the file cannot be read: it may just have lost a key."""
        digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
        with self._lock:
            if stamp_of(self.path) != self._stamp:
                try:
                    self._stamp, self._callers = self._read()
                except FieldwiseError as error:
                    log.error("no key is taken until the file of keys is mended", exc_info=error)
                    self._callers = {}
            return self._callers.get(digest)

    def _read(self) -> tuple[tuple[int, ...], dict[str, Caller]]:
        stamp = stamp_of(self.path)
        try:
            if self.path.stat().st_size > _MAX_BYTES:
                raise _unreadable(self.path, "more than 1 MB")
            raw = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            told = error.strerror if isinstance(error, OSError) else "no YAML"
            raise _unreadable(self.path, told) from error
        if not isinstance(raw, list) or not raw:
            raise _unreadable(self.path, f"no list of keys but {type(raw).__name__}")
        callers: dict[str, Caller] = {}
        names: set[str] = set()
        for number, line in enumerate(raw, 1):
            try:
                key = ClientKey.model_validate(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"]) or "entry"
                raise _unreadable(self.path, f"entry {number}, {place}: {first['msg']}") from error
            if key.name in names or key.sha256 in callers:
                raise _unreadable(self.path, f"entry {number} repeats the name or the key of another")
            names.add(key.name)
            rights: frozenset[Right] = RIGHTS if "admin" in key.rights else frozenset(key.rights)
            callers[key.sha256] = Caller(key.name, Identity(key.tenant, frozenset(key.groups)), rights)
        return stamp, callers


def new_key() -> tuple[str, str]:
    """Return a new key and its SHA-256."""
    key = f"fw_{secrets.token_urlsafe(32)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


def _unreadable(path: Path, found: str | None) -> FieldwiseError:
    return FieldwiseError("the file of keys cannot be used", where=path, found=found, fix=_EXAMPLE)
