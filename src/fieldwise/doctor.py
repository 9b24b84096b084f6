"""What the machine offers, which libraries are there, and what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from fieldwise import __version__
from fieldwise.extras import EXTRAS, installed_version
from fieldwise.machine import cpu_features, has_bfloat16, memory_bytes, usable_cores

_REQUIREMENT = re.compile(r"([\w.-]+).*;.*extra == ['\"]([\w-]+)['\"]")
_TESTED = {"torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0", "xllamacpp": "2026.10.11549"}
_LOW_MEMORY_GB, _LOW_DISK_GB = 4.0, 3.0


class Finding(NamedTuple):
    """One line of the report."""

    area: str
    name: str
    value: str
    state: Literal["ok", "note", "problem"]
    fix: str | None = None


def examine(folder: Path) -> list[Finding]:
    """Look at the machine, the libraries and the disk under `folder`, without importing anything heavy."""
    return [*_machine(folder), *_extras(), *_torchvision(), *_versions()]


def _machine(folder: Path) -> list[Finding]:
    cores, memory = usable_cores(), (memory_bytes() or 0) / 1e9
    place = folder.absolute()
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free / 1e9
    return [
        Finding("machine", "Fieldwise", __version__, "ok"),
        Finding(
            "machine",
            "Python",
            platform.python_version(),
            "ok" if sys.version_info >= (3, 11) else "problem",
            None if sys.version_info >= (3, 11) else "Fieldwise needs Python 3.11 or newer.",
        ),
        Finding(
            "machine",
            "cores",
            str(cores),
            "ok" if cores >= 2 else "note",
            None if cores >= 2 else "One core: expect twice the time.",
        ),
        Finding(
            "machine",
            "memory",
            f"{memory:.1f} GB" if memory else "unknown",
            "ok" if not memory or memory >= _LOW_MEMORY_GB else "problem",
            None if not memory or memory >= _LOW_MEMORY_GB else "The demo needs about 4 GB.",
        ),
        Finding(
            "machine",
            "disk",
            f"{free:.1f} GB free",
            "ok" if free >= _LOW_DISK_GB else "problem",
            None if free >= _LOW_DISK_GB else f"Free at least {_LOW_DISK_GB:.0f} GB, or use another folder with --run.",
        ),
        Finding("machine", "vector arithmetic", ", ".join(cpu_features()) or "unknown", "ok"),
        _bfloat16(),
        _gpu(),
    ]


def _bfloat16() -> Finding:
    found = has_bfloat16()
    if found is None:
        return Finding("machine", "bfloat16 arithmetic", "unknown", "note")
    return Finding(
        "machine",
        "bfloat16 arithmetic",
        "yes" if found else "no",
        "ok" if found else "note",
        None if found else "Training runs in float32, about half as fast.",
    )


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding(
            "machine",
            "GPU",
            "none",
            "note",
            "Everything runs on the CPU; for bases above about 1 billion weights a GPU is worth having.",
        )
    try:
        names = subprocess.run(
            [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (subprocess.SubprocessError, OSError) as error:
        return Finding("machine", "GPU", f"nvidia-smi failed: {type(error).__name__}", "problem", "Check the driver.")
    return Finding("machine", "GPU", names.replace("\n", "; "), "ok")


_INSTALLED_APART = {
    "nano": "pip install ./nano",
    "docling": "pip install 'fieldwise[documents,docling]' in an environment of its own, named in collect.docling.python",
}


def _extras() -> list[Finding]:
    findings = []
    needed = _libraries()
    for extra, adds in EXTRAS.items():
        missing = [name for name in needed.get(extra, ()) if installed_version(name) is None]
        if extra not in needed:
            findings.append(
                Finding(
                    "extras", extra, "unknown: Fieldwise is not installed", "note", "pip install -c constraints.txt ."
                )
            )
        elif missing:
            fix = _INSTALLED_APART.get(extra, f"pip install -c constraints.txt 'fieldwise[{extra}]'")
            findings.append(Finding("extras", extra, f"missing {', '.join(missing)}", "note", f"To {adds}: {fix}"))
        else:
            findings.append(Finding("extras", extra, "installed", "ok"))
    return findings


def _libraries() -> dict[str, list[str]]:
    """The libraries of each extra, as the installed package itself names them."""
    try:
        requirements = importlib.metadata.requires("fieldwise") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for requirement in requirements:
        if match := _REQUIREMENT.match(requirement):
            found.setdefault(match[2], []).append(match[1])
    return found


def _torchvision() -> list[Finding]:
    """A torchvision built for another torch breaks the import of transformers' Trainer, TRL and PEFT."""
    vision, torch = installed_version("torchvision"), installed_version("torch")
    if vision is None:
        return []
    try:
        check = subprocess.run(
            [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return [Finding("libraries", "torchvision", vision, "note", "Its import took longer than two minutes.")]
    if check.returncode == 0:
        return [Finding("libraries", "torchvision", vision, "ok")]
    last = (check.stderr.strip().splitlines() or ["import failed"])[-1]
    return [
        Finding(
            "libraries",
            "torchvision",
            f"{vision} does not fit torch {torch}: {last[:80]}",
            "problem",
            "Fieldwise does not need it: pip uninstall torchvision",
        )
    ]


def _versions() -> list[Finding]:
    findings = []
    for name, tested in _TESTED.items():
        version = installed_version(name)
        if version is not None:
            same = version.split("+")[0] == tested
            findings.append(
                Finding(
                    "libraries",
                    name,
                    version,
                    "ok" if same else "note",
                    None if same else f"Tested with {tested}: pip install -c constraints.txt {name}=={tested}",
                )
            )
    return findings
