"""Network <-> plain MXNet's files: symbol JSON, ``.params``, and the preprocessing record beside them."""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from xfer2._mxnet import mx, numpy_interface
from xfer2._validation import check_integer, nearest
from xfer2.exceptions import ModelError
from xfer2.model_handler import params, symbols
from xfer2.model_handler.graph import codec, edit
from xfer2.model_handler.network import Network, Preprocessing


def read(path: str, epoch: Any = None) -> Network:
    """Read a checkpoint by its prefix or by its ``PREFIX-symbol.json``; the newest epoch, where none is given.

    Raises
    ------
    ModelError
        A file is missing, broken, or does not fit the others.
    ParameterError
        `epoch` is no number of an epoch.
    """
    prefix = re.sub(r"-symbol\.json$", "", path)
    symbol_path = f"{prefix}-symbol.json"
    if not os.path.isfile(symbol_path):
        raise ModelError(f"There is no checkpoint {prefix!r}: {symbol_path!r} does not exist.{_near_files(prefix)}")
    if epoch is None:
        found = _epochs(prefix)
        if not found:
            raise ModelError(f"There are no parameters beside {prefix!r}-symbol.json: a file {prefix}-0000.params was "
                             "expected.")
        epoch = max(found)
    number = check_integer("ModelHandler", "the epoch of (prefix, epoch)", epoch, 0)
    try:
        text = Path(symbol_path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{symbol_path!r} is no text file: {error}.") from error
    try:
        graph = symbols.read_symbol_text(text)
    except ModelError as error:
        raise ModelError(f"{symbol_path}: {error}") from error
    params_path = f"{prefix}-{number:04d}.params"
    values = load_params(params_path)
    network = with_preprocessing(params.assemble(symbols.to_symbol(graph), values), prefix)
    inputs = [name for name in graph.variable_names if name in network.inputs]
    network = replace(network, graph=edit.with_inputs_first(network.graph, inputs))
    if not values and network.parameter_names:
        raise ModelError(f"{params_path!r} holds no arrays; {symbol_path!r} has {len(network.parameter_names)} parameters, "
                         f"the first {network.parameter_names[0]!r}. Save the network again with its parameters.")
    if not network.params and network.parameter_names:
        raise ModelError(
            f"No name in {params_path!r} is a parameter of {symbol_path!r} (it has {next(iter(values))!r}, the network "
            f"{network.parameter_names[0]!r}). Files of Block.save_parameters name parameters by the block's "
            "attributes: load one into its block and hand over the block.")
    return network


def write(network: Network, prefix: str, epoch: int = 0) -> list[str]:
    """Write ``PREFIX-symbol.json``, ``PREFIX-EPOCH.params`` and, where known, ``PREFIX-preprocessing.json``.

    Plain MXNet loads the first two. Each file is written under a temporary name and renamed. A preprocessing record of an
    earlier checkpoint of that prefix is removed where the network has none.

    Returns
    -------
    list of str
        The paths written.

    Raises
    ------
    ModelError
        A file cannot be written, or the prefix has parameters of a later epoch: those are what is read back.
    """
    params.require_values(network, "save")
    folder = os.path.dirname(prefix) or "."
    if not os.path.isdir(folder):
        raise ModelError(f"Cannot save to {prefix!r}: there is no folder {folder!r}.")
    later = max(_epochs(prefix), default=epoch)
    if later > epoch:
        raise ModelError(f"Cannot save epoch {epoch} to {prefix!r}: {prefix}-{later:04d}.params is of a later epoch, and it "
                         f"is what would be read. Choose another prefix, save with epoch={later} or a later one, or "
                         "remove that file.")
    symbol = symbols.to_symbol(network.graph)  # without the layers that no output needs: their parameters have no place
    arrays = {**{f"arg:{name}": network.arg_params[name] for name in symbol.list_arguments() if name in network.arg_params},
              **{f"aux:{name}": network.aux_params[name] for name in symbol.list_auxiliary_states()}}
    text = symbol.tojson()
    if len(network.inputs) > 1:  # in the order of their use there
        text = codec.encode(edit.with_inputs_first(codec.decode(text), network.inputs))
    texts = {f"{prefix}-symbol.json": text}
    record = f"{prefix}-preprocessing.json"
    if network.preprocessing is not None:
        texts[record] = network.preprocessing.to_json()
    params_path = f"{prefix}-{epoch:04d}.params"
    try:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            mx.nd.save(os.path.join(scratch, "params"), arrays)
            if network.preprocessing is None:  # first: another network's record beside this one would be believed
                Path(record).unlink(missing_ok=True)
            os.replace(os.path.join(scratch, "params"), params_path)
            for path, text in texts.items():
                Path(scratch, "text").write_text(text, encoding="utf-8")
                os.replace(os.path.join(scratch, "text"), path)
    except (OSError, mx.MXNetError) as error:
        raise ModelError(f"Cannot save to {prefix!r}: {symbols.first_line(error)}") from error
    return [*texts, params_path]


def load_params(path: str) -> dict[str, Any]:
    """Read a ``.params`` file in any of MXNet's naming schemes: ``arg:NAME`` and ``aux:NAME``, or bare names.

    Raises
    ------
    ModelError
        The file is missing, cut short, or holds arrays without names.
    """
    if not os.path.isfile(path):
        raise ModelError(f"There is no parameter file {path!r}.")
    try:
        loaded = _loaded(path)
    except (mx.MXNetError, MemoryError, ValueError) as error:
        raise ModelError(f"{path!r} cannot be read as MXNet parameters; it may be cut short "
                         f"({os.path.getsize(path):,} bytes): {symbols.first_line(error)}") from error
    if not loaded:  # MXNet writes no names where there is nothing to name, and reads an empty list
        return {}
    if not isinstance(loaded, dict):
        raise ModelError(f"{path!r} holds {len(loaded)} arrays without names; parameters are saved under their names.")
    return {re.sub(r"^(arg|aux):", "", name): array for name, array in loaded.items()}


def _loaded(path: str) -> Any:
    """What MXNet reads; arrays of its NumPy interface, which it reads within that alone."""
    try:
        return mx.nd.load(path)
    except mx.MXNetError as error:
        if "np shape semantics" not in str(error):
            raise
    with numpy_interface():
        return mx.nd.load(path)


def _epochs(prefix: str) -> list[int]:
    """The epochs of which a prefix has parameters."""
    return [int(match[1]) for path in glob.glob(f"{glob.escape(prefix)}-*.params")
            if (match := re.match(r"^-(\d{4,})\.params$", path[len(prefix):]))]


def _near_files(prefix: str) -> str:
    found = sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(prefix) or "."), "*-symbol.json")))
    if not found:
        return ""
    names = nearest(prefix, [re.sub(r"-symbol\.json$", "", path) for path in found], 3)
    return f" Checkpoints in that folder: {', '.join(names)}."


def with_preprocessing(network: Network, prefix: str) -> Network:
    """The network with the record in ``PREFIX-preprocessing.json``, where that is there."""
    path = Path(f"{prefix}-preprocessing.json")
    if not path.is_file():
        return network
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(record, dict):
        raise ModelError(f"{path} must hold an object.")
    value = Preprocessing.from_mapping(record, origin=str(path))
    if value.input_name not in network.inputs:
        raise ModelError(f"{path} is for the input {value.input_name!r}; the network's inputs are: "
                         f"{', '.join(network.inputs) or 'none'}.")
    changed = replace(network, preprocessing=value)
    symbols.infer_shapes(changed)
    return changed
