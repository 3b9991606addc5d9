"""``xfer2``: wires the commands, and turns a user's mistake into one line and exit code 2."""

from __future__ import annotations

import sys

import typer

from xfer2._version import __version__
from xfer2.cli import demo
from xfer2.exceptions import XferError

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Repurpose trained MXNet/Gluon networks for new tasks with little data.")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xfer2 {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True,
                                          help="Print the version and stop.")) -> None:
    """Options of the program itself."""


app.command("demo")(demo.demo)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except XferError as error:
        print(f"xfer2: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
