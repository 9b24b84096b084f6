"""What stands behind the service and behind `fieldwise ask`: the models of a release and the documents of its run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import JsonValue

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.errors import ModelError
from fieldwise.hashing import sha256_file
from fieldwise.interfaces import Engine, Sampling
from fieldwise.records import Document, ModelBuild
from fieldwise.retrieve.follow_up import ByEndpoint, ByModel, Condense, carried, joined
from fieldwise.retrieve.grounded import GroundedAnswerer
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.library import Library, Shelf
from fieldwise.serve.release_file import BASE, TUNED, ReleaseFile, fitted_with, named_builds, read_release
from fieldwise.serve.settings import ServeSettings
from fieldwise.serve.writer import SearchWriter
from fieldwise.store.options import PLAIN
from fieldwise.store.protocol import Identity

if TYPE_CHECKING:
    from fieldwise.serve.stored import OpenIngester, StoreLibrary

ANSWER_TOKENS = 256
OpenEngine = Callable[[Path, str, ServeSettings], Engine]
log = logging.getLogger(__name__)


class UnknownModelError(ModelError):
    """No model is served under this name."""


class ServedModel(NamedTuple):
    """A model by its public name."""

    name: str
    build: ModelBuild
    is_loaded: bool
    context_tokens: int | None


def open_llama(path: Path, name: str, settings: ServeSettings) -> Engine:
    """Load a GGUF file as the recipe's serve section says."""
    return LlamaCppEngine(
        path,
        context_tokens=settings.context_tokens,
        parallel=settings.parallel,
        threads=settings.threads,
        model_id=name,
    )


@contextmanager
def open_backend(
    run: RunFolder,
    settings: ServeSettings,
    retrieve: RetrieveSettings,
    model: str,
    *,
    open_engine: OpenEngine = open_llama,
    ingest: OpenIngester | None = None,
) -> Iterator[Backend]:
    """Open the release of a run; `model` is the type of the file to serve as "tuned", such as q8_0.

    `ingest` makes what reads documents that are added to a store; without it none can be added.
    Raises RunError when nothing is released, ModelError when the model was not built, its file is gone or is another.
    """
    release = read_release(run)
    named = named_builds(release, model)
    library: Library | StoreLibrary
    if settings.store is None:
        library = Library(run, retrieve)
    else:
        from fieldwise.serve.stored import open_store_library

        library = open_store_library(run, settings, retrieve, ingest)
    backend = Backend(run, release, named, library, (settings, retrieve), open_engine)
    try:
        backend.engine(TUNED)
        yield backend
    finally:
        backend.close()
        library.close()


class Backend:
    """Engines by public name, the documents, and answerers over both. Safe to use from several threads."""

    def __init__(
        self,
        run: RunFolder,
        release: ReleaseFile,
        named: dict[str, ModelBuild],
        library: Library | StoreLibrary,
        settings: tuple[ServeSettings, RetrieveSettings],
        open_engine: OpenEngine,
    ) -> None:
        self.run, self.release, self.library = run, release, library
        self.settings, self.retrieve = settings
        self._named, self._open = named, open_engine
        self._engines: dict[str, Engine] = {}
        self._loading = {
            name: threading.Lock() for name in named
        }  # one each: loading a large file must not hold up the others
        self._is_closed = False
        self._fitted = fitted_with(run, release)
        self._writer = library.writer or SearchWriter(self.settings.search.endpoint)  # one budget for both
        if why := self.unruled(TUNED, self.retrieve):
            log.warning("the rule of when to decline is not applied", extra={"fields": {"why": why}})

    # ------------------------------------------------------------ models

    def models(self) -> list[ServedModel]:
        """Return what is served, the chosen build first."""
        return [
            ServedModel(
                name,
                build,
                name in self._engines,
                self._engines[name].context_tokens if name in self._engines else None,
            )
            for name, build in self._named.items()
        ]

    def name_of(self, wanted: str) -> str:
        """Return the public name of a model; the chosen build also answers to its type. Raises UnknownModelError, listing those there are."""
        if wanted in self._named:
            return wanted
        if wanted in (f"{TUNED}:{self._named[TUNED].quantisation}", self.release.name):
            return TUNED
        raise UnknownModelError(
            "no model is served under this name",
            where="model",
            found=repr(wanted),
            fix=f"Choose one of: {', '.join(self._named)}.",
        )

    def engine(self, name: str = TUNED) -> Engine:
        """Return the engine of a model, loading it first if need be. Raises UnknownModelError, or ModelError when it cannot be loaded."""
        name = self.name_of(name)
        loaded = self._engines.get(name)
        if loaded is not None and not loaded.is_closed:
            return loaded
        with self._loading[name]:
            if self._is_closed:
                raise ModelError("the service is shutting down", fix="Ask again when it is back.")
            if name not in self._engines or self._engines[name].is_closed:  # a fault has ended it: load it again
                self._engines[name] = self._open(self._checked_file(self._named[name]), name, self.settings)
                log.info(
                    "model loaded", extra={"fields": {"model": name, "quantisation": self._named[name].quantisation}}
                )
            return self._engines[name]

    def answerer(
        self, name: str = TUNED, *, top_k: int | None = None, identity: Identity | None = None
    ) -> GroundedAnswerer:
        """Return what answers someone from the documents with a model; `top_k` is how many passages it is shown."""
        retrieve = self.retrieve if top_k is None else self.retrieve.model_copy(update={"top_k": top_k})
        name = self.name_of(name)
        unruled = self.unruled(name, retrieve)
        engine, reader = self.engine(name), self.reader(identity)
        return GroundedAnswerer(
            name,
            engine,
            reader,
            retrieve,
            Sampling(max_tokens=ANSWER_TOKENS),
            None if unruled else self.release.decline,
            condense=self._condense(engine),
            unruled=unruled,
        )

    def unruled(self, name: str, retrieve: RetrieveSettings) -> str:
        """Return why the rule of when to decline does not hold for a model and settings; empty if it does or there is none.

        It was fitted to the tuned weights, and to the passages and scores that the settings of then gave.
        """
        if self.release.decline is None:
            return ""
        if name == BASE:
            return "it was fitted to the tuned weights"
        now, then = retrieve.keyed(), self._fitted
        if then is None:  # an older run: all that can be told is whether this question is asked as the recipe says
            now, then = {"top_k": retrieve.top_k}, {"top_k": self.retrieve.top_k}
        for key in sorted(now.keys() | then.keys()):
            if now.get(key) != then.get(key):
                return f"it was fitted with retrieve.{key} {_told(then, key)}, not {_told(now, key)}"
        search = self.settings.search
        if search.rewrite != "endpoint":
            search = search.model_copy(update={"endpoint": PLAIN.endpoint})  # which then words follow-ups alone
        changed = [key for key in type(search).model_fields if getattr(search, key) != getattr(PLAIN, key)]
        return f"it was fitted without serve.search.{changed[0]}" if changed else ""

    def _condense(self, engine: Engine) -> Condense:
        """What words the search for a question that goes on from earlier ones."""
        how = self.settings.follow_up
        if how == "model":
            return ByModel(engine, self.settings.follow_up_seconds)
        if how == "endpoint":
            return ByEndpoint(self._writer)
        return carried if how == "carried" else joined

    def warm_up(self) -> None:
        """Load the tuned model and, for comparing, the base; generate one token with each."""
        for name in (TUNED, BASE):
            if name in self._named:
                engine = self.engine(name)
                engine.generate([engine.tokenize("Hello")], Sampling(max_tokens=1))

    def _checked_file(self, build: ModelBuild) -> Path:
        path = (self.run.path / build.path).resolve()
        again = f"Make the release again: fieldwise release --run {self.run.path} --force"
        if not path.is_relative_to(self.run.path):
            raise ModelError("the model file stands outside the run folder", where=build.path, fix=again)
        if not path.is_file():
            raise ModelError("the model file is not there", where=path, fix=again)
        digest = sha256_file(path)
        if digest != build.sha256:
            raise ModelError(
                "the model file is not the one that was released",
                where=path,
                found=f"SHA-256 {digest[:16]}... instead of {build.sha256[:16]}...",
                fix=again,
            )
        return path

    # ------------------------------------------------------------ documents

    def reader(self, identity: Identity | None = None) -> Shelf:
        """Return the documents that are there for someone; None asks as whoever runs the service."""
        return self.library.reader(identity)

    def document(self, identifier: str) -> Document:
        """Return a document; raises NotFoundError."""
        return self.reader().document(identifier)

    def close(self) -> None:
        """Free all models."""
        self._is_closed = True
        for name, lock in self._loading.items():
            with lock:
                engine = self._engines.pop(name, None)
            if engine is not None:
                engine.close()


def _told(settings: dict[str, JsonValue], key: str) -> str:
    """A setting for a message: models stand there by the hash of their files."""
    value = settings.get(key)
    return "another model" if isinstance(value, dict) else "unset" if value is None else str(value)
