"""``xfer2 export``: a network as files of plain MXNet, or as ONNX."""

from __future__ import annotations

from typing import Annotated

import typer

from xfer2.cli import _models
from xfer2.cli._output import Overwrite, check_output
from xfer2.exceptions import ModelError
from xfer2.model_handler.handler import ModelHandler

_PARTS = ("symbol.json", "0000.params", "preprocessing.json")


def export(model: Annotated[str, typer.Argument(metavar="MODEL", help="What `xfer2 repurpose` made, or any model.")],
           output: Annotated[str, typer.Option("--output", "-o", help="A prefix, for PREFIX-symbol.json, PREFIX-0000.params "
                                               "and PREFIX-preprocessing.json; or a .onnx file.")],
           features: Annotated[bool, typer.Option(
               "--features", help="Of a method whose head is no network: the network that gives its features.")] = False,
           overwrite: Overwrite = False) -> None:
    """Write a repurposed network so that plain MXNet, or ONNX Runtime, gives the same probabilities.

    \b
    Example:
      xfer2 repurpose zoo:cifar10-cnn photos -o tuned \\
        --method fine-tune --set num_epochs=10
      xfer2 export tuned -o photos-mxnet
    """
    onnx = output.endswith(".onnx")
    for path in [output] if onnx or output in ("", "-") else [f"{output}-{part}" for part in _PARTS]:
        check_output(path, overwrite)
    saved = _models.read_saved(model) if _models.is_saved(model) else None
    if saved is not None and not hasattr(saved, "export") and not features:
        raise ModelError(f"The method {saved.method!r} has a head that is no network. With --features, the network that "
                         "gives its features is exported; fine-tune and the other network methods export as a whole.")
    handler = ModelHandler(_models.read_model(model)[0] if saved is None else saved.network_)
    if onnx:
        handler.export_onnx(output)
        paths = [output]
    else:
        paths = handler.save(output) if saved is None or not hasattr(saved, "export") else saved.export(output)
    for path in paths:
        print(path)
