"""What every command shares: tables, JSON, files and pipes, and options that mean the same everywhere."""

from __future__ import annotations

import json
import logging
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xfer2._files import replacing
from xfer2._progress import Bar
from xfer2._validation import parameter_error
from xfer2.exceptions import DataError, XferError

_SKIPPED_SHOWN = 10

Model = Annotated[str, typer.Argument(metavar="MODEL", help="zoo:NAME, gluoncv:NAME, a checkpoint's prefix, or what "
                                      "`xfer2 repurpose` made.")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="A folder of images, a .csv of paths (and labels), or a .rec.")]
Saved = Annotated[str, typer.Argument(metavar="OUT", help="What `xfer2 repurpose` made.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what has the name of the output.")]
Errors = Annotated[str, typer.Option(help="Images that cannot be read: 'skip' goes on and names them, 'raise' stops.")]


class UnfinishedError(XferError):
    """Something failed underway; the message says what was done and where it is. Exit code 1."""


def be_quiet(wanted: bool) -> None:
    """Show no progress where that is wanted. What the library logs, commands say themselves."""
    Bar.quiet = wanted
    logging.getLogger("xfer2").setLevel(logging.ERROR)


def note(text: str, quiet: bool = False) -> None:
    """A line for people, on standard error."""
    if not quiet:
        print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as JSON; NumPy's numbers become plain, NaN and infinities null."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[str] = ()) -> None:
    """Print a table; cells wrap where a terminal is narrow, and never in a pipe."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    with console.capture() as held:
        console.print(table)
    print("\n".join(line.rstrip() for line in held.get().splitlines()))


def check_output(path: str, overwrite: bool, folder: bool = False, pipe: bool = False, option: str = "--output") -> None:
    """Raise where a file, or folder, of that name cannot be written, before any work is done.

    Raises
    ------
    ParameterError
        It exists, or is ``-`` where that cannot be printed.
    DataError
        There is no such folder, or nothing can be written there.
    """
    if path == "-" and pipe:
        return
    if path in ("", "-"):
        raise parameter_error("xfer2", option, "a name" if pipe else "a name; this cannot be printed", path)
    target = Path(path)
    if target.exists() and not overwrite:
        raise parameter_error("xfer2", option, "new", path, "Replace what is there with --overwrite.")
    if target.is_dir() and not folder:
        raise parameter_error("xfer2", option, "a file", path)
    if not target.parent.is_dir():
        raise DataError(f"Cannot write {path!r}: there is no folder {str(target.parent)!r}.")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise DataError(f"Cannot write {path!r}: {error.strerror or error}.") from error


def write_text(path: str, text: str) -> None:
    """Write a file, whole or not at all, or standard output where the path is ``-``."""
    if path == "-":
        sys.stdout.write(text)
        return
    with replacing(path) as scratch:
        Path(scratch).write_text(text, encoding="utf-8", newline="")


def check_choice(option: str, value: str, choices: Sequence[str]) -> str:
    """Return the value of an option, or raise unless it is one of the choices."""
    if value not in choices:
        raise parameter_error("xfer2", option, f"one of {', '.join(choices)}", value)
    return value


def check_errors(value: str) -> str:
    """Return the value of --errors, or raise."""
    return check_choice("--errors", value, ("skip", "raise"))


def say_skipped(skipped: Sequence[str], total: int) -> None:
    """Name the images that could not be read, on one line."""
    if skipped:
        count = f"{len(skipped)} of {total} images"
        more = f" (and {len(skipped) - _SKIPPED_SHOWN} more)" if len(skipped) > _SKIPPED_SHOWN else ""
        print(f"xfer2: {count} could not be read and were left out: {'; '.join(skipped[:_SKIPPED_SHOWN])}{more}",
              file=sys.stderr)
