"""The command line: one command per stage, and those that look at a run, ask, gate, compare, vote and measure.

Results go to stdout, progress to stderr. Exit codes: 0 done, 2 something the user can mend, 3 a gate said no,
4 `gate` could not decide, 130 interrupted, 141 the reader of the output went away. Nothing heavy is imported before a
command needs it.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fieldwise import __version__
from fieldwise.commands import (
    adapters,
    data,
    gate,
    judge,
    looking,
    recipe,
    retrieval,
    review,
    serving,
    stages,
    store,
    suite,
    sweep,
    voting,
)
from fieldwise.commands.common import common_flags, parents, print_json
from fieldwise.errors import FieldwiseError, RecipeError
from fieldwise.progress import remember_interrupts, set_quiet

# What the file system may say no to because of a place the user named; any other OSError is a bug.
_PLACE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:  # argparse takes a list of positionals in one place only; overrides may stand between flags
        if not hasattr(options, "overrides") or any(r.startswith("-") or "=" not in r for r in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides = [*options.overrides, *rest]
    if not hasattr(options, "command"):
        parser.print_help()
        return 0
    set_quiet(options.quiet)
    remember_interrupts()
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except FieldwiseError as error:
        return _report(error, options)
    except KeyboardInterrupt:
        print("\nfieldwise: interrupted. Finished work is kept; run the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough; the interpreter must not try to flush again
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            from fieldwise.files import disk_is_full

            return _report(disk_is_full(Path(error.filename or ".")), options)
        if error.errno not in _PLACE_ERRORS or error.filename is None:
            raise
        told = FieldwiseError(
            "the file or folder cannot be used",
            where=error.filename,
            found=error.strerror,
            fix="Check the place and your permissions, or name another.",
        )
        return _report(told, options)


def _report(error: FieldwiseError, options: argparse.Namespace) -> int:
    if options.json:
        problems = {"problems": [p.to_json() for p in error.problems]} if isinstance(error, RecipeError) else {}
        print_json({**error.to_json(), **problems})
    print(f"fieldwise: {error}", file=sys.stderr)
    return error.exit_code


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="fieldwise",
        description="From a folder of documents to a small language model that its owner can defend.",
        parents=[common_flags(default=False)],
    )
    parser.add_argument("--version", action="version", version=f"fieldwise {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    shared = parents()
    for module in (
        recipe,
        stages,
        sweep,
        gate,
        serving,
        voting,
        judge,
        review,
        suite,
        retrieval,
        store,
        adapters,
        looking,
        data,
    ):
        module.add(commands, shared)
    return parser


if __name__ == "__main__":
    sys.exit(main())
