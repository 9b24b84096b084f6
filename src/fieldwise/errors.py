"""Every error a user can meet, in one tree.

    FieldwiseError                 anything a user can mend: printed without a traceback, exit code 2
    ├── RecipeError                the recipe is not valid
    ├── MissingExtra               an optional library is not installed
    ├── InputError                 a file or data set cannot be used
    │   ├── DocumentError          one document; it becomes a row of rejected.jsonl, never the end of a run
    │   └── DatasetError           examples, questions or pairs
    ├── ModelError                 base weights, adapter, tokenizer or model file
    ├── ServiceError               a service did not answer as it should
    ├── RunError                   the run folder: locked, full, from a newer version
    └── GateFailed                 a gate said no: exit code 3

A message says what is wrong, where, what was found and what to do.
"""

from __future__ import annotations


class FieldwiseError(Exception):
    """A problem the user can mend.

    `where` is a file, file:line or dotted recipe key; `found` what stood there; `fix` what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, found: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.found, self.fix = what, where, found, fix
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where is not None else self.what
        if self.found is not None:
            text += f", found {self.found}"
        text = text.rstrip(".") + "."
        return f"{text} {self.fix}" if self.fix else text

    def to_json(self) -> dict[str, str | None]:
        """Return the four parts, for `--json` and for HTTP answers."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": None if self.where is None else str(self.where),
            "found": None if self.found is None else str(self.found),
            "fix": self.fix,
        }


class RecipeError(FieldwiseError):
    """The recipe is not valid; `problems` holds every problem found, not only the first."""

    def __init__(self, problems: list[FieldwiseError], *, where: object = None) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the recipe", where=where)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {p}" for p in self.problems)])

    def to_json(self) -> dict[str, str | None]:
        """Return the error with every problem under `found`."""
        return {**super().to_json(), "found": "\n".join(str(p) for p in self.problems)}


class MissingExtra(FieldwiseError):
    """An optional library is not installed."""


class InputError(FieldwiseError):
    """A file or data set cannot be used."""


class DocumentError(InputError):
    """One document cannot be read; `reason` is the short code that stands in rejected.jsonl."""

    def __init__(
        self, what: str, *, reason: str, where: object = None, found: object = None, fix: str | None = None
    ) -> None:
        self.reason = reason
        super().__init__(what, where=where, found=found, fix=fix)


class DatasetError(InputError):
    """Examples, questions or preference pairs cannot be used."""


class ModelError(FieldwiseError):
    """Base weights, an adapter, a tokenizer or a model file cannot be used."""


class ServiceError(FieldwiseError):
    """A service did not answer as it should."""


class RunError(FieldwiseError):
    """The run folder cannot be used as it stands."""


class GateFailed(FieldwiseError):
    """A gate said no."""

    exit_code = 3
