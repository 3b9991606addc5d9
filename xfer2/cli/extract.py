"""``xfer2 extract``: features of images into a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from xfer2.cli import _models
from xfer2.cli._output import (
    Data,
    Errors,
    Json,
    Model,
    Overwrite,
    Quiet,
    UnfinishedError,
    be_quiet,
    check_errors,
    check_output,
    note,
    plain,
    print_json,
    say_skipped,
)
from xfer2.exceptions import DataError, LayerNotFoundError, ParameterError, XferError
from xfer2.features.resumable import extract_to_file, kept


def extract(model: Model,
            data: Data,
            output: Annotated[str, typer.Option("--output", "-o", help="A .parquet, .npz, .npy or .csv file, or a folder; "
                                                "- prints CSV, or with --json a JSON object a line.")],
            layers: Annotated[str | None, typer.Option(
                help="Names between commas; by default what the last dense layer or convolution reads; 'stages' adds "
                     "means of what is below.")] = None,
            pool: Annotated[str, typer.Option(help="Reduce maps to a number a channel: avg, max or none.")] = "none",
            batch_size: Annotated[int, typer.Option(help="Images that are computed at once.")] = 32,
            resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
            errors: Errors = "skip", overwrite: Overwrite = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Write the outputs of layers for images to a file: ids, labels, and a block of columns a layer.

    Memory does not grow with the images. The file appears when it is whole; an interrupted run goes on with --resume.

    \b
    Example:
      xfer2 extract zoo:cifar10-cnn photos --layers conv3,dense0 \\
        --pool avg -o features.parquet
    """
    be_quiet(quiet)
    begun = resume and output != "-" and kept(output)[1] > 0
    check_output(output, overwrite or begun, folder=True, pipe=not resume)
    settings: dict[str, Any] = {"pool": _models.chosen_pool(pool), "batch_size": batch_size,
                                "errors": check_errors(errors)}
    network, default = _models.read_model(model)
    names = _models.chosen_layers(network, layers, default)
    if output == "-":
        _stream(network, data, names, settings, as_json)
        return
    written = _to_file(network, data, names, output, {**settings, "resume": resume, "overwrite": overwrite})
    say_skipped(written.skipped, written.examples + len(written.skipped))
    if as_json:
        print_json(vars(written))
    else:
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in written.shapes.items())
        note(f"{written.path}: {written.examples} examples; {shapes}", quiet)


def _to_file(network: Any, data: str, names: list[str], output: str, settings: dict[str, Any]) -> Any:
    try:
        return extract_to_file(network, data, names, output, **settings)
    except (ParameterError, LayerNotFoundError):
        raise
    except (XferError, OSError, MemoryError, KeyboardInterrupt) as error:
        folder, done = kept(output)
        if not done:
            raise
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).rstrip(".")
        raise UnfinishedError(f"{reason}; the features of the first {done} examples are kept in {folder!r}: "
                              "go on with --resume.") from error


def _stream(network: Any, data: str, names: list[str], settings: dict[str, Any], as_json: bool) -> None:
    """Print rows as they come, batch after batch."""
    from xfer2.data.batches import open_batches
    from xfer2.features.extractor import extract_parts, pruned
    from xfer2.features.files import write_csv
    from xfer2.features.store import Features
    from xfer2.model_handler.answers import with_layers

    network, layers = with_layers("xfer2 extract", network, tuple(names))
    wanted = pruned(network, layers)
    batches = open_batches(data, wanted, None, settings["batch_size"], settings["errors"], "xfer2 extract")
    printed = 0

    def parts() -> Iterator[Features]:
        nonlocal printed
        for part in extract_parts(network, batches, layers, settings["pool"], most=1):
            yield part
            printed += len(part)

    if not as_json:
        write_csv(sys.stdout, parts)
    else:
        for part in parts():
            for row in range(len(part)):
                line = {"id": part.ids[row], "label": None if part.labels is None else part.labels[row],
                        **{name: part[name][row] for name in part.layers}}
                print(json.dumps(plain(line)))
    if not printed:
        raise DataError(f"None of the {len(batches.skipped)} images of {data!r} can be read; the first: "
                        f"{batches.skipped[0]}")
    say_skipped(batches.skipped, printed + len(batches.skipped))
