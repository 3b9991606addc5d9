"""``xfer2``: wires the commands, and turns what goes wrong into one line and an exit code.

0: done. 1: failed underway; what was done is kept and named. 2: a mistake in the call.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any

import typer

from xfer2._version import __version__
from xfer2.cli import demo, export, extract, inspect, methods, predict, report, repurpose
from xfer2.cli._output import UnfinishedError
from xfer2.exceptions import ImageError, TrainingError, XferError

FAILED, MISTAKE = 1, 2
_UNDERWAY = (UnfinishedError, TrainingError, ImageError)
_CallError: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Repurpose trained MXNet/Gluon networks for new tasks with little data.",
                  epilog="Exit codes: 0 done, 1 failed underway, 2 a mistake in the call.")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xfer2 {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(context: typer.Context,
             version: bool = typer.Option(False, "--version", callback=_version, is_eager=True,
                                          help="Print the version and stop.")) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_COMMANDS: dict[str, Any] = {
    "inspect": inspect.inspect, "extract": extract.extract, "repurpose": repurpose.repurpose, "predict": predict.predict,
    "report": report.report, "export": export.export, "methods": methods.methods, "demo": demo.demo}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # whoever read has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except _CallError as error:
        return _failed(error.format_message(), MISTAKE, getattr(error, "ctx", None))
    except _UNDERWAY as error:
        return _failed(error, FAILED)
    except XferError as error:
        return _failed(error, MISTAKE)
    except (KeyboardInterrupt, typer.Abort):
        return _failed("interrupted; nothing was written.", FAILED)
    except (OSError, MemoryError) as error:
        return _failed(f"{error or 'out of memory'}; nothing was written.", FAILED)


def _failed(error: Any, code: int, context: Any = None) -> int:
    """One line on standard error."""
    text = " ".join(str(error).split())
    remedy = f" See: {context.command_path} --help" if context is not None else ""
    print(f"xfer2: {text}{remedy}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
