"""``xfer2 report``: one HTML file on a repurposed network and what it says of some images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from xfer2.cli import _models
from xfer2.cli._output import Data, Errors, Overwrite, Quiet, Saved, be_quiet, check_errors, check_output, note, write_text


def report(saved: Saved, data: Data,
           output: Annotated[str, typer.Option("--output", "-o", help="An .html file; - prints it.")] = "report.html",
           title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
           errors: Errors = "skip", overwrite: Overwrite = False, quiet: Quiet = False) -> None:
    """Write one self-contained HTML file: what was done, figures with intervals, plots, examples, all predictions.

    \b
    Example:
      xfer2 report photos-laplace photos -o report.html
    """
    be_quiet(quiet)
    check_output(output, overwrite, pipe=True)
    check_errors(errors)
    import matplotlib

    matplotlib.use("agg")
    repurposer = _models.read_saved(saved).set_params(errors=errors)
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch, "report.html")
        repurposer.report(page, data, title=title)
        write_text(output, page.read_text(encoding="utf-8"))
    if output != "-":
        note(f"The report is in {output}.", quiet)
