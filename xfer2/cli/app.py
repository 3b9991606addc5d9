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
_INTERRUPTED = 130  # what typer makes of Ctrl-C
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
    warnings.showwarning = _warned
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever called
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it lives as long as the program
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
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
        code = _INTERRUPTED
    except Exception as error:  # one line whatever it is; who wants the traceback asks for it
        if os.environ.get("XFER2_TRACEBACK"):
            raise
        return _failed(f"{type(error).__name__}: {error} (XFER2_TRACEBACK=1 shows where)", FAILED)
    if code == _INTERRUPTED:
        return _failed("interrupted before the output was whole; nothing is kept.", FAILED)
    return code if isinstance(code, int) else 0


def _warned(message: Any, *_: Any, **__: Any) -> None:
    """A line, as all that goes wrong is."""
    _failed(message, 0)


def _failed(error: Any, code: int, context: Any = None) -> int:
    """One line on standard error."""
    text = " ".join(str(error).split())
    remedy = f" See: {context.command_path} --help" if context is not None else ""
    print(f"{text if text.startswith('xfer2') else f'xfer2: {text}'}{remedy}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
