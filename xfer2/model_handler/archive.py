"""Network <-> files of a saved directory: symbol JSON, safetensors, and a record of the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2.exceptions import PersistenceError
from xfer2.model_handler import params, symbols
from xfer2.model_handler.graph import codec
from xfer2.model_handler.network import Network, Preprocessing


def to_files(network: Network, name: str = "network") -> dict[str, bytes]:
    """The network as ``NAME-symbol.json``, ``NAME.safetensors`` and ``NAME.json``."""
    from safetensors.numpy import save

    arrays = {key: np.ascontiguousarray(array.asnumpy()) for key, array in network.params.items()}
    record = {
        "inputs": {key: list(shape) for key, shape in network.input_shapes.items()},
        "frozen": sorted(network.frozen),
        "preprocessing": None if network.preprocessing is None else json.loads(network.preprocessing.to_json()),
    }
    return {f"{name}-symbol.json": codec.encode(network.graph).encode(), f"{name}.safetensors": save(arrays),
            f"{name}.json": json.dumps(record, indent=2).encode()}


def from_files(files: Mapping[str, bytes], name: str = "network") -> Network:
    """Undo `to_files`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        record: dict[str, Any] = json.loads(files[f"{name}.json"])
        graph = symbols.read_symbol_text(files[f"{name}-symbol.json"].decode())
        arrays = load(files[f"{name}.safetensors"])
        said = record["preprocessing"]
        network = Network(graph, input_shapes={key: tuple(shape) for key, shape in record["inputs"].items()},
                          frozen=frozenset(record["frozen"]),
                          preprocessing=None if said is None else Preprocessing.from_mapping(said))
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise PersistenceError(f"The saved network {name!r} cannot be read: {error}.") from error
    return params.with_params(network, {key: mx.nd.array(array, dtype=array.dtype) for key, array in arrays.items()})
