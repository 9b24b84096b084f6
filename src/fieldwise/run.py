"""The run folder: the contract between the stages.

    RUN/
      recipe.yaml            the resolved recipe of the last run
      1_documents/ ...       what the stages leave, for people and for the next stage
      manifests/4b_train.json  written last: it means "complete" and says from what each output was made
      store/ab/abcd...       every output by its content hash; what was made once can be restored
      memo/                  results per record (an extracted document, an answered question)
      work/                  where a stage keeps its ledger and checkpoints until it is done
      changed/               outputs that were changed by hand, kept when a stage had to write them anew
      curves.jsonl           figures of training as they arise
      lock                   held while a command writes

A step runs when its key has no complete manifest. The key hashes the step's settings, the content of its
inputs, the code of its modules and the versions of the libraries that shape its output; never times, never
absolute paths. Outputs are made in a staging folder, hashed, linked into the store, moved to their place;
the manifest comes last. `kill -9` at any moment, then the same command, ends in the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from pydantic import JsonValue

from fieldwise.errors import DatasetError, FieldwiseError, RunError
from fieldwise.files import link_or_copy, raise_if_full, read_json, sync, write_json
from fieldwise.hashing import canonical_json, sha256_file, sha256_text
from fieldwise.progress import say
from fieldwise.tracking import JsonlTracker, Tracker

LAYOUT_VERSION = 1
_LEAST_FREE_BYTES = 200_000_000
_PARTS = "key.json"  # in a work folder: what its key is made of


class Output(NamedTuple):
    """One file of a step: its hash and its size."""

    sha256: str
    bytes: int


class Manifest(NamedTuple):
    """What a finished step leaves on record."""

    step: str
    key: str
    parts: dict[str, JsonValue]
    outputs: dict[str, Output]
    facts: dict[str, JsonValue]
    seconds: float

    def to_json(self) -> dict[str, JsonValue]:
        """The manifest as it stands on disk."""
        return {
            "layout": LAYOUT_VERSION,
            "step": self.step,
            "key": self.key,
            "parts": self.parts,
            "facts": self.facts,
            "seconds": round(self.seconds, 3),
            "outputs": {name: {"sha256": o.sha256, "bytes": o.bytes} for name, o in sorted(self.outputs.items())},
        }

    @classmethod
    def from_json(cls, raw: dict[str, JsonValue], where: Path) -> Self:
        """Read a manifest; one from a newer layout is refused."""
        if raw.get("layout") != LAYOUT_VERSION:
            raise RunError(
                "made by another version of Fieldwise",
                where=where,
                found=f"layout {raw.get('layout')}",
                fix=f"This version reads layout {LAYOUT_VERSION}. Use a new run folder.",
            )
        value: dict[str, Any] = dict(raw)
        try:
            outputs = {name: Output(str(o["sha256"]), int(o["bytes"])) for name, o in value["outputs"].items()}
            parts, facts = dict(value["parts"]), dict(value["facts"])
            return cls(str(value["step"]), str(value["key"]), parts, outputs, facts, float(value["seconds"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                "not a manifest",
                where=where,
                found=repr(error),
                fix="Delete the file: the stage will run again or be restored.",
            ) from error


class RunFolder:
    """A run folder opened for reading; `locked()` gives the right to write."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    # ------------------------------------------------------------ places

    @property
    def manifests(self) -> Path:
        """Where the manifests stand."""
        return self.path / "manifests"

    @property
    def store(self) -> Path:
        """Where contents are kept by their hash."""
        return self.path / "store"

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe of the last run."""
        return self.path / "recipe.yaml"

    @property
    def tracker(self) -> JsonlTracker:
        """Where figures of training go."""
        return JsonlTracker(self.path / "curves.jsonl")

    def memo(self, name: str) -> Memo:
        """Results per record that survive reruns, kept by the hash of what they depend on."""
        return Memo(self.path / "memo" / name)

    def require(self, relative: str, made_by: str) -> Path:
        """Return the path of an earlier stage's output, or say which stage makes it."""
        path = self.path / relative
        if not path.exists():
            raise DatasetError(
                "the file is not there",
                where=path,
                fix=f"Run the stage that makes it: fieldwise {made_by} --run {self.path}",
            )
        return path

    # ------------------------------------------------------------ manifests

    def manifest(self, step: str) -> Manifest | None:
        """Return the manifest of a finished step, or None."""
        path = self.manifests / f"{step}.json"
        try:
            return Manifest.from_json(read_json(path), path)
        except FileNotFoundError:  # or taken away just now by a command that runs
            return None

    def damaged_outputs(self, manifest: Manifest) -> list[str]:
        """Return outputs that are missing or no longer hold what the manifest says."""
        damaged = []
        for name, output in manifest.outputs.items():
            path = self.path / name
            try:
                is_whole = path.stat().st_size == output.bytes and sha256_file(path) == output.sha256
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                is_whole = False
            if not is_whole:
                damaged.append(name)
        return damaged

    # ------------------------------------------------------------ store

    def blob(self, sha256: str) -> Path:
        """Where the store keeps a content."""
        return self.store / sha256[:2] / sha256

    def _record(self, key: str) -> Path:
        return self.store / "keys" / f"{key}.json"

    def stored(self, key: str) -> Manifest | None:
        """Return the manifest of an earlier run with this key if the store still holds all of its outputs, unspoilt."""
        path = self._record(key)
        if not path.exists():
            return None
        manifest = Manifest.from_json(read_json(path), path)
        for output in manifest.outputs.values():
            blob = self.blob(output.sha256)
            if not blob.is_file() or blob.stat().st_size != output.bytes or sha256_file(blob) != output.sha256:
                return None
        return manifest

    def restore(self, manifest: Manifest) -> None:
        """Put the outputs of a stored step back in their place."""
        self._retire(manifest.step, keep=manifest.outputs)
        for name, output in manifest.outputs.items():
            link_or_copy(self.blob(output.sha256), self.path / name)
        write_json(self.manifests / f"{manifest.step}.json", manifest.to_json())

    def publish(
        self,
        step: str,
        key: str,
        parts: dict[str, JsonValue],
        staging: Path,
        facts: dict[str, JsonValue],
        seconds: float,
    ) -> Manifest:
        """Move what a step made from its staging folder to its place, by way of the store; the manifest comes last."""
        outputs: dict[str, Output] = {}
        for path in sorted(p for p in staging.rglob("*") if p.is_file()):
            name = path.relative_to(staging).as_posix()
            sync(path)
            outputs[name] = Output(sha256_file(path), path.stat().st_size)
        self._retire(step, keep=outputs)
        for name, output in outputs.items():
            blob = self.blob(output.sha256)
            if not blob.exists() or blob.stat().st_size != output.bytes or sha256_file(blob) != output.sha256:
                link_or_copy(staging / name, blob)
            link_or_copy(blob, self.path / name)
        manifest = Manifest(step, key, parts, outputs, facts, seconds)
        write_json(self._record(key), manifest.to_json())
        write_json(self.manifests / f"{step}.json", manifest.to_json())
        shutil.rmtree(staging, ignore_errors=True)
        for folder in (self._work_folder(step, key), *self._begun(step, key)):  # else --force would find all done
            shutil.rmtree(folder, ignore_errors=True)
        return manifest

    def _retire(self, step: str, keep: dict[str, Output]) -> None:
        """Take the last outputs of a step away: first the manifest, so that nothing half-gone looks complete."""
        try:
            old = self.manifest(step)
        except (RunError, DatasetError):
            old = None
        self._set_aside(self.damaged_outputs(old) if old else [])
        (self.manifests / f"{step}.json").unlink(missing_ok=True)
        for name in old.outputs if old else ():
            if name not in keep:
                (self.path / name).unlink(missing_ok=True)

    def _set_aside(self, changed: list[str]) -> None:
        """Move outputs that someone has edited out of the way, so that hours of a person's work are not overwritten."""
        for name in changed:
            if (self.path / name).is_file():
                kept = self.path / "changed" / name
                number = 1
                while kept.exists():
                    number += 1
                    kept = (self.path / "changed" / name).with_name(f"{number}-{Path(name).name}")
                kept.parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).rename(kept)
                say(f"   {name} was changed by hand; that version is kept as {kept.relative_to(self.path)}")

    def staging(self, step: str) -> Path:
        """Return an empty folder in which a step makes its outputs; leftovers of killed runs are removed."""
        for leftover in self.path.glob(f".tmp-{step}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        folder = self.path / f".tmp-{step}-{os.getpid()}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise_if_full(error, folder)
            raise
        return folder

    def work(self, step: str, key: str, parts: dict[str, JsonValue] | None = None) -> Path:
        """Return the folder of a step's ledger and checkpoints, with what its key is made of beside them.

        Of other keys the one that was begun last is kept until the step is done, in case a setting was changed by mistake.
        """
        folder = self._work_folder(step, key)
        for other in self._begun(step, key)[1:]:
            shutil.rmtree(other, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        if parts is not None and not (folder / _PARTS).exists():
            write_json(folder / _PARTS, parts)
        return folder

    def begun_otherwise(self, step: str, key: str) -> dict[str, JsonValue] | None:
        """Return what the key of an unfinished run of a step was made of, where it was begun with another key alone."""
        if _has_work(self._work_folder(step, key)):
            return None
        try:
            others = self._begun(step, key)
            return read_json(others[0] / _PARTS) if others and _has_work(others[0]) else None
        except FileNotFoundError:  # of an older version, or taken away just now by a command that runs
            return None

    def _begun(self, step: str, key: str) -> list[Path]:
        """Folders of other keys of a step, the one that was worked in last first; those in which nothing was done come last."""
        others = [p for p in (self.path / "work").glob(f"{step}-*") if p != self._work_folder(step, key)]
        return sorted(others, key=lambda p: (_has_work(p), p.stat().st_mtime), reverse=True)

    def _work_folder(self, step: str, key: str) -> Path:
        return self.path / "work" / f"{step}-{key[:12]}"

    # ------------------------------------------------------------ lock and disk

    @contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Hold the folder for writing; a second writer is told who has it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise RunError(
                "the run folder is a file", where=self.path, fix="Name another folder with --run."
            ) from error
        except OSError as error:
            raise_if_full(error, self.path)
            raise RunError(
                "the run folder cannot be made",
                where=self.path,
                found=error.strerror,
                fix="Name another folder with --run.",
            ) from error
        path = self.path / "lock"
        with _open_lock(path) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.seek(0)
                raise RunError(
                    "another command is writing to this run folder",
                    where=self.path,
                    found=stream.read().strip() or None,
                    fix="Wait until it has finished, or name another folder with --run.",
                ) from error
            stream.truncate(0)
            stream.write(f"process {os.getpid()}: {command}\n")
            stream.flush()
            try:
                yield
            finally:
                stream.truncate(0)
                fcntl.flock(stream, fcntl.LOCK_UN)

    def require_free_disk(self, needed_bytes: int = _LEAST_FREE_BYTES) -> None:
        """Stop before work starts when the disk cannot take it."""
        free = shutil.disk_usage(self.path).free
        if free < needed_bytes:
            raise RunError(
                "too little disk space to start",
                where=self.path,
                found=f"{free / 1e6:.0f} MB free",
                fix=f"Free at least {needed_bytes / 1e6:.0f} MB.",
            )


def _has_work(folder: Path) -> bool:
    """Whether a step has left anything in its work folder."""
    return folder.is_dir() and any(p.name != _PARTS for p in folder.iterdir())


def _open_lock(path: Path) -> IO[str]:
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise_if_full(error, path)
        raise RunError(
            "the run folder cannot be written",
            where=path.parent,
            found=error.strerror,
            fix="Name another folder with --run.",
        ) from error


class Memo:
    """Small results by the hash of what they depend on, such as the text extracted from one file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, *parts: JsonValue) -> JsonValue | None:
        """Return the remembered value, or None."""
        path = self._path(parts)
        try:
            value: JsonValue = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return value

    def put(self, value: JsonValue, *parts: JsonValue) -> None:
        """Remember a value."""
        write_json(self._path(parts), value)

    def _path(self, parts: tuple[JsonValue, ...]) -> Path:
        digest = sha256_text(canonical_json(list(parts)))
        return self.folder / digest[:2] / f"{digest[2:]}.json"


class StepRun:
    """What a stage is given while it runs: where to read, where to write, where to keep what must survive a kill."""

    def __init__(
        self, run: RunFolder, step: str, key: str, seed: int, parts: dict[str, JsonValue] | None = None
    ) -> None:
        self.run, self.step, self.key, self.seed = run, step, key, seed
        self.staging = run.staging(step)
        self.work = run.work(step, key, parts)
        self.tracker: Tracker = run.tracker

    def out(self, relative: str) -> Path:
        """Return the place of an output below the staging folder, named as it will stand in the run folder."""
        path = self.staging / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            shutil.rmtree(self.staging, ignore_errors=True)
            if isinstance(error, Exception) and not isinstance(error, FieldwiseError):
                raise_if_full(error, self.run.path)
