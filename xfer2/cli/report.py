"""``xfer2 report``: one HTML file on a repurposed network and what it says of some images."""

from __future__ import annotations

from typing import Annotated

import typer

from xfer2.cli import _models
from xfer2.cli._output import Data, Errors, Overwrite, Quiet, Saved, be_quiet, check_output, note


def report(saved: Saved, data: Data,
           output: Annotated[str, typer.Option("--output", "-o", help="An .html file.")] = "report.html",
           title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
           errors: Errors = "skip", overwrite: Overwrite = False, quiet: Quiet = False) -> None:
    """Write one self-contained HTML file: what was done, figures with intervals, plots, examples, all predictions.

    \b
    Example:
      xfer2 report photos-laplace photos -o report.html
    """
    be_quiet(quiet)
    check_output(output, overwrite)
    import matplotlib

    matplotlib.use("agg")
    repurposer = _models.read_saved(saved).set_params(errors=errors)
    repurposer.report(output, data, title=title, overwrite=overwrite)
    note(f"The report is in {output}.", quiet)
