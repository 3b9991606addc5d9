"""What a command's MODEL, OUT and names of layers mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xfer2.cli._output import check_choice
from xfer2.exceptions import DataError
from xfer2.model_handler import sources
from xfer2.model_handler.answers import features_layer
from xfer2.model_handler.network import Network
from xfer2.persistence import MANIFEST
from xfer2.repurposers._registry import METHODS


def is_saved(path: str) -> bool:
    """Whether a path is the folder of a saved repurposer."""
    try:
        return (Path(path) / MANIFEST).is_file()
    except OSError:  # no name that a file can have
        return False


def read_saved(path: str) -> Any:
    """Read a saved repurposer; what is no folder of one is named as a mistake."""
    from xfer2.repurposers.loading import load

    if not Path(path).exists():
        raise DataError(f"There is no folder {path!r}; `xfer2 repurpose ... -o {path}` makes one.")
    return load(path)


def read_model(model: str) -> tuple[Network, list[str] | None]:
    """A source's network, or that of a saved repurposer and, if it is a classifier on features, the layers of those."""
    if not is_saved(model):
        return sources.read(model), None
    saved = read_saved(model)
    features = getattr(saved, "feature_indices_per_layer_", None)
    return saved.network_, None if features is None else list(features)


def method_names(text: str) -> list[str]:
    """Names of methods that begin so, for the shell's completion."""
    return [name for name in METHODS if name.startswith(text)]


def chosen_layers(network: Network, text: str | None, default: list[str] | None) -> list[str]:
    """Names between commas; by default those given, or what the last dense layer or convolution reads."""
    if text is None:
        return default or [features_layer("xfer2", network, "Name the layers with --layers.")]
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen_pool(text: str) -> str | None:
    """A kind of pooling, with ``none`` for none."""
    return None if check_choice("--pool", text, ("avg", "max", "none")) == "none" else text
