"""What a command's MODEL, OUT and names of layers mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xfer2.exceptions import DataError
from xfer2.model_handler import sources
from xfer2.model_handler.network import Network
from xfer2.persistence import MANIFEST
from xfer2.repurposers._training_run import features_layer


def is_saved(path: str) -> bool:
    """Whether a path is the folder of a saved repurposer."""
    return (Path(path) / MANIFEST).is_file()


def read_saved(path: str) -> Any:
    """Read a saved repurposer; what is no folder of one is named as a mistake."""
    from xfer2.repurposers.loading import load

    if not Path(path).exists():
        raise DataError(f"There is no folder {path!r}; `xfer2 repurpose ... -o {path}` makes one.")
    return load(path)


def read_network(model: str) -> Network:
    """A source's network, or that of a saved repurposer."""
    return read_saved(model).network_ if is_saved(model) else sources.read(model)


def chosen_layers(network: Network, text: str | None) -> list[str]:
    """Names between commas; by default what the last dense layer or convolution reads."""
    if text is None:
        return [features_layer("xfer2", network, "Name the layers with --layers.")]
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen_pool(text: str) -> str | None:
    """A kind of pooling, with ``none`` for none."""
    return None if text == "none" else text
