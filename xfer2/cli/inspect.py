"""``xfer2 inspect``: a network as a table, and as a picture."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xfer2._files import replacing
from xfer2._validation import parameter_error
from xfer2.cli import _models
from xfer2.cli._output import Json, Model, Overwrite, check_output, note, print_json, print_table
from xfer2.model_handler.handler import ModelHandler


def inspect(model: Model,
            graph: Annotated[str | None, typer.Option(help="Draw the network into this file: .svg, .png or .pdf.")] = None,
            input_shape: Annotated[str | None, typer.Option(
                help="Shape of the input without the batch axis, as in 3,224,224, where the model does not say it.")] = None,
            overwrite: Overwrite = False, as_json: Json = False) -> None:
    """Print a network's layers: types, output shapes, parameters, FLOPs, frozen.

    \b
    Example:
      xfer2 inspect zoo:mnist-cnn --graph mnist-cnn.svg
    """
    if graph is not None:
        check_output(graph, overwrite, option="--graph")
        _check_picture(graph)
    handler = ModelHandler(_models.read_model(model)[0])
    shapes = {} if input_shape is None else {handler.network.inputs[0]: _shape(input_shape)}
    summary = handler.summary(**shapes)
    if as_json:
        print_json({"inputs": dict(summary.inputs), "parameters": summary.parameters, "flops": summary.flops,
                    "frozen_parameters": summary.frozen_parameters, "layers": [vars(row) for row in summary.rows]})
    else:
        columns, rows, total = summary.cells()
        print(summary.inputs_text)
        print_table(columns, rows, numeric=("parameters", "FLOPs"))
        print(total)
    if graph is not None:
        _draw(handler, graph, shapes)
        note(f"The graph is in {graph}.")


def _check_picture(path: str) -> None:
    if not path.endswith((".svg", ".png", ".pdf")):
        raise parameter_error("xfer2 inspect", "--graph", "a .svg, .png or .pdf file", path)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise parameter_error("xfer2 inspect", "--input-shape", "numbers between commas, as in 3,224,224", text) from error


def _draw(handler: Any, path: str, shapes: dict[str, tuple[int, ...]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    with replacing(path) as scratch:
        handler.plot(**shapes).figure.savefig(scratch, bbox_inches="tight")
