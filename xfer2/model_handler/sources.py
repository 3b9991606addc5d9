"""Anything that holds a trained network -> Network."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from xfer2._mxnet import gluoncv, mx, numpy_interface
from xfer2._validation import nearest, parameter_error
from xfer2.exceptions import ModelError, ParameterError
from xfer2.model_handler import mxnet_files, onnx_import, params
from xfer2.model_handler.graph import edit
from xfer2.model_handler.network import Network, Preprocessing
from xfer2.model_handler.symbols import first_line, require_classic_interface

_UNTRACEABLE = (AttributeError, TypeError, ValueError, AssertionError, LookupError, RuntimeError)
ZOO_DIRECTORY = Path(__file__).resolve().parent.parent / "zoo"
_IMAGENET: dict[str, Any] = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CIFAR: dict[str, Any] = {"scale": 1 / 255, "mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
_GLUONCV_SIZES = {"inceptionv3": 299, "xception": 299, "xception71": 299, "nasnet_5_1538": 331, "nasnet_6_4032": 331,
                  "nasnet_7_1920": 331}


def read(model: Any, owner: str = "ModelHandler", name: str = "model") -> Network:
    """Read a network from whatever holds it.

    Parameters
    ----------
    model : Network, ModelHandler, Module, Block, Symbol, tuple, str or path
        * ``mx.mod.Module``, bound or not; ``gluon.HybridBlock``, hybridized or not; ``gluon.SymbolBlock``.
        * ``(symbol, arg_params, aux_params)``, or ``(prefix, epoch)``.
        * a checkpoint's prefix, or its ``PREFIX-symbol.json``: the newest epoch beside it is read.
        * an ONNX file's path, ``NAME.onnx``.
        * of these, also what was made with MXNet's NumPy interface (``mx.np``), while that is not switched on.
        * ``"zoo:NAME"``: a network that ships with xfer2.
        * ``"gluoncv:NAME"``: a pre-trained network of gluoncv, which fetches it where it is not in its cache.
    owner, name : str
        Who asks, and what `model` is called there, for messages.

    Raises
    ------
    ModelError
        The source cannot be read; the message says which part is wrong.
    ParameterError
        `model` is none of these.
    """
    require_classic_interface()
    if isinstance(model, Network):
        return model
    held = getattr(model, "network", None)
    if isinstance(held, Network):
        return held
    if isinstance(model, str) and re.match(r"^(zoo|gluoncv):", model):
        scheme, _, name = model.partition(":")
        return _from_zoo(name) if scheme == "zoo" else _from_gluoncv(name)
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        return onnx_import.read(path) if path.endswith(".onnx") else mxnet_files.read(path)
    if isinstance(model, mx.mod.Module):
        return _from_module(model)
    if isinstance(model, mx.gluon.Block):
        return _from_block(model)
    if isinstance(model, mx.sym.Symbol):
        return params.assemble(model.as_nd_ndarray(), {})
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[0], (str, os.PathLike)):
        return mxnet_files.read(os.fspath(model[0]), model[1])
    if isinstance(model, tuple) and len(model) in (2, 3) and isinstance(model[0], mx.sym.Symbol):
        given = {name: array for part in model[1:] for name, array in (part or {}).items()}
        return params.assemble(model[0].as_nd_ndarray(), _copied(given))
    raise parameter_error(
        owner, name, "a Module, a Gluon block, a checkpoint prefix, an .onnx file, (symbol, arg_params, aux_params), "
        "'zoo:NAME', 'gluoncv:NAME', a Network or a ModelHandler", model)


def zoo_names() -> list[str]:
    """Names of the networks that ship with xfer2."""
    return sorted(path.name[: -len("-symbol.json")] for path in ZOO_DIRECTORY.glob("*-symbol.json"))


def preprocessing_of_gluoncv(name: str) -> Preprocessing:
    """How gluoncv's classification networks were trained to see images, by the networks' names.

    Source: gluoncv's ImageNet and CIFAR-10 evaluation scripts.
    """
    if name.startswith("cifar_"):
        return Preprocessing((3, 32, 32), resize_short=32, crop="center", **_CIFAR)
    size = _GLUONCV_SIZES.get(name, 224)
    return Preprocessing((3, size, size), resize_short=round(size / 0.875), crop="center", **_IMAGENET)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of one's own: a source that trains on must not change the network that was read from it."""
    return {name: array.as_nd_ndarray().copyto(mx.cpu()) if isinstance(array, mx.nd.NDArray) else array
            for name, array in values.items()}


def _from_module(module: Any) -> Network:
    mx.nd.waitall()  # BatchNorm's backward pass writes its statistics unseen by MXNet's scheduler
    if module.binded and module.params_initialized:
        arguments, states = module.get_params()
    else:
        arguments, states = module._arg_params or {}, module._aux_params or {}
    shapes = {name: tuple(shape[1:]) for name, shape in module.data_shapes} if module.binded else {}
    return params.assemble(module.symbol, _copied({**arguments, **states}), input_shapes=shapes)


def _from_block(block: Any) -> Network:
    mx.nd.waitall()  # as in _from_module
    symbol, inputs = _trace(block)
    present = set(symbol.list_inputs())
    held = {name: p for name, p in block.collect_params().items() if name in present}
    values = _copied({name: p.data(p.list_ctx()[0]) for name, p in held.items() if p._data is not None})
    network = params.assemble(symbol, values)
    network = replace(network, graph=edit.with_inputs_first(network.graph, inputs))  # tracing puts first what is used first
    # what has no gradient by its nature (statistics, a BatchNorm's scale where it has none) tells nothing of a choice
    states = set(symbol.list_auxiliary_states())
    chosen = {name: p.grad_req for name, p in held.items() if name not in states and p._differentiable}
    if "null" not in chosen.values():
        return network
    return replace(network, frozen=frozenset(_layers_without_gradient(network, chosen)))


def _layers_without_gradient(network: Network, requests: Mapping[str, str]) -> Iterator[str]:
    """Layers all of whose parameters have ``grad_req="null"``, those of which their weights are computed counted in."""
    for layer, own in network.layer_parameters.items():
        asked = [requests[name] for name in own if name in requests]
        if asked and all(request == "null" for request in asked):
            yield layer


def _trace(block: Any) -> tuple[Any, list[str]]:
    """A block's symbol, and the names of its inputs in the order of the block's arguments."""
    cached = getattr(block, "_cached_graph", None)
    if cached:
        return cached[1].as_nd_ndarray(), [symbol.name for symbol in _flatten(cached[0])]
    names = _input_names(block)
    try:
        output = _called(block, names)
    except _UNTRACEABLE as error:
        raise ModelError(
            f"The block {type(block).__name__} cannot be traced into a graph with {len(names)} input(s): "
            f"{first_line(error)} ({type(error).__name__}). Only hybridizable blocks can; call it once on data after "
            "hybridize() if its inputs are not arguments of hybrid_forward.") from error
    flat = [symbol.as_nd_ndarray() for symbol in _flatten(output)]
    return flat[0] if len(flat) == 1 else mx.sym.Group(flat), names


def _called(block: Any, names: Sequence[str]) -> Any:
    """What a block makes of symbols: of MXNet's NumPy interface where its parameters are, or, without any, if need be."""
    arrays = [array for p in block.collect_params().values() for array in p._data or ()]
    if any(isinstance(array, mx.np.ndarray) for array in arrays):
        return _called_by_numpy(block, names)
    try:
        return block(*[mx.sym.var(name) for name in names])
    except _UNTRACEABLE:
        with suppress(*_UNTRACEABLE):
            if not arrays:
                return _called_by_numpy(block, names)
        raise


def _called_by_numpy(block: Any, names: Sequence[str]) -> Any:
    with numpy_interface():
        return block(*[mx.sym.var(name).as_np_ndarray() for name in names])


def _input_names(block: Any) -> list[str]:
    method = getattr(type(block), "hybrid_forward", None)
    if method is None or "forward" in vars(type(block)):
        return ["data"]
    arguments = list(inspect.signature(method).parameters.values())[2:]  # after self and F
    owned = set(getattr(block, "_reg_params", {}))
    required = [a for a in arguments if a.default is a.empty and a.name not in owned
                and a.kind in (a.POSITIONAL_ONLY, a.POSITIONAL_OR_KEYWORD)]
    return ["data"] if len(required) <= 1 else [f"data{number}" for number in range(len(required))]


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _flatten(part)
    else:
        yield value


def _from_zoo(name: str) -> Network:
    names = zoo_names()
    if name not in names:
        raise ParameterError(f"The zoo has no network {name!r}. It has: {', '.join(names) or 'none'}.")
    return params.cast(mxnet_files.read(str(ZOO_DIRECTORY / name), 0), "float32")


def _from_gluoncv(name: str) -> Network:
    zoo = gluoncv().model_zoo
    known = list(zoo.get_model_list())
    if name.lower() not in known:
        raise ParameterError(f"gluoncv has no model {name!r}. Nearest: {', '.join(nearest(name, known))}.")
    try:
        block = zoo.get_model(name, pretrained=True)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"gluoncv could not load the weights of {name!r} ({first_line(error)}). It fetches them to "
                         "~/.mxnet/models at first use, which needs a network.") from error
    network = _from_block(block)
    return replace(network, preprocessing=preprocessing_of_gluoncv(name.lower())) if len(network.inputs) == 1 else network
