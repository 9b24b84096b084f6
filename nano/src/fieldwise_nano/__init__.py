"""fieldwise-nano: small Llama-shaped base weights that read the passages they are given.

A reader, not a source of knowledge: it knows nothing of the world and is not for clinical use. See MODEL_CARD.md.

    >>> from fieldwise_nano import sizes, weights
    >>> folder = weights()            # the default size, as a folder transformers can load
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

__all__ = ["DEFAULT_SIZE", "WeightsError", "card", "sizes", "weights"]

_ROOT = Path(__file__).parent / "weights"
_PREFERRED = ("nano-30m", "nano-10m", "nano-2m")  # the largest that is installed is the default


class WeightsError(Exception):
    """The weights are missing, damaged, or of a size that is not installed; the message says what to do."""


def sizes() -> list[str]:
    """Return the installed sizes, largest first."""
    return [name for name in _PREFERRED if (_ROOT / name / "card.json").is_file()]


def _default() -> str:
    found = sizes()
    return found[0] if found else _PREFERRED[1]


DEFAULT_SIZE = _default()


def card(size: str | None = None) -> dict[str, object]:
    """Return the card of a size: shape, hashes, how it was made, what was measured."""
    name = _known(size)
    value: dict[str, object] = json.loads((_ROOT / name / "card.json").read_text(encoding="utf-8"))
    return value


def weights(size: str | None = None) -> Path:
    """Return the folder of a size after checking every file against the hashes in its card.

    Raises WeightsError for a size that is not installed, or a file that is missing, truncated or changed.
    """
    name = _known(size)
    folder = _ROOT / name
    expected = card(name)["sha256"]
    if not isinstance(expected, dict):
        raise WeightsError(f"{folder / 'card.json'}: expected an object under 'sha256'. {_CURE}")
    for file, digest in expected.items():
        path = folder / str(file)
        if not path.is_file():
            raise WeightsError(f"{path}: the file is missing. {_CURE}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != digest:
            raise WeightsError(
                f"{path}: expected sha256 {str(digest)[:12]}..., found {found[:12]}... ({path.stat().st_size} bytes). {_CURE}"
            )
    return folder


_CURE = (
    "Install the package again: pip install --force-reinstall fieldwise-nano (or pip install ./nano from a checkout)."
)


def _known(size: str | None) -> str:
    installed = sizes()
    if not installed:
        raise WeightsError(f"{_ROOT}: no weights are installed. {_CURE}")
    name = size or installed[0]
    if name not in installed:
        raise WeightsError(
            f"{name!r}: this size is not installed. Installed: {', '.join(installed)}. Name one of them in base.model, such as fieldwise-nano/{installed[0]}."
        )
    return name
