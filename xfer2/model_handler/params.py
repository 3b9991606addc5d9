"""Parameters of a network: which a layer owns, which are missing, new values for some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from xfer2._mxnet import Symbol, mx, own_draws
from xfer2._validation import parameter_error
from xfer2.exceptions import MissingParametersError, ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import operators
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.network import Network, Params

_SUMS = ("broadcast_add", "elemwise_add")
_FIXED = {"moving_mean": '["zero", {}]', "moving_var": '["one", {}]', "slope": '["constant", {"value": 0.25}]'}
_KNOWN_ENDS = ("weight", "bias", "gamma", "beta", "min", "max", "weight_quantize", "bias_quantize")  # by mx.init.Initializer


def owned_by(network: Network, layers: Iterable[str]) -> tuple[str, ...]:
    """Names of the parameters and statistics of these layers, through the graph's edges, in the graph's order."""
    owned = {name for layer in layers for name in network.layer_parameters[network.graph.layer(layer).name]}
    return tuple(name for name in network.parameter_names if name in owned)


def require_values(network: Network, purpose: str) -> None:
    """Raise unless every parameter has a value."""
    missing = network.missing
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise MissingParametersError(
            f"{purpose} needs values for all parameters; {len(missing)} of {len(network.parameter_names)} have none: "
            f"{shown}. Bind and load the model before handing it over, or give them values with reinitialize().")


def split(graph_params: Params, auxiliary: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part one mapping into trained parameters and auxiliary states."""
    states = set(auxiliary)
    return ({k: v for k, v in graph_params.items() if k not in states},
            {k: v for k, v in graph_params.items() if k in states})


def assemble(symbol: Symbol, values: Mapping[str, Any], **record: Any) -> Network:
    """The network of a symbol and of parameters by name; `record` is what else a `Network` takes.

    Raises
    ------
    ParameterError
        A parameter is no NDArray.
    ModelError
        Shapes contradict the graph.
    """
    graph = symbols.from_symbol(symbol)
    for name, array in values.items():
        if not isinstance(array, mx.nd.NDArray):
            raise parameter_error("ModelHandler", f"the parameter {name!r}", "an mx.nd.NDArray", type(array).__name__)
    states = set(symbol.list_auxiliary_states())
    network = Network(graph, *split(values, states), **record)
    symbols.infer_shapes(network)  # parameters that contradict the graph are found here, not at the first use
    return network


def without(network: Network, names: Iterable[str]) -> Network:
    """The network without the values of some parameters."""
    gone = set(names)
    return replace(network, arg_params={k: v for k, v in network.arg_params.items() if k not in gone},
                   aux_params={k: v for k, v in network.aux_params.items() if k not in gone})


def with_params(network: Network, values: Params) -> Network:
    """The network with some parameters' values replaced or given; each is filed as argument or auxiliary state."""
    arguments, states = split({**network.params, **values}, auxiliary_names(network))
    return replace(network, arg_params=arguments, aux_params=states)


def cast(network: Network, dtype: str) -> Network:
    """The network with all its floating-point parameters in another such type."""
    def as_type(arrays: Params) -> dict[str, Any]:
        return {name: array if np.dtype(array.dtype).kind in "iu" else array.astype(dtype, copy=False)
                for name, array in arrays.items()}

    return replace(network, arg_params=as_type(network.arg_params), aux_params=as_type(network.aux_params))


def auxiliary_names(network: Network) -> list[str]:
    """Variables that operators update by themselves."""
    return symbols.to_symbol(network.graph).list_auxiliary_states()


def initialize(network: Network, names: Iterable[str] | None = None, initializer: Any = None,
               shapes: Mapping[str, tuple[int, ...]] | None = None, seed: int | None = None) -> Network:
    """Draw new values for some parameters.

    Parameters
    ----------
    network : Network
    names : iterable of str, optional
        By default those that have no values.
    initializer : mx.init.Initializer, optional
        For weights that do not name their own; by default ``Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)``
        (He et al. 2015, arXiv:1502.01852). Biases start at 0, scales at 1, running variances at 1, slopes of PReLU at
        0.25. What a parameter is, the layer that reads it tells; where that does not, the end of its name.
    shapes : mapping of str to tuple of int, optional
        Shapes of the parameters themselves, where they do not follow from the network.
    seed : int, optional
        Seed of MXNet's generator; by default it goes on where it is.

    Raises
    ------
    ModelError
        A shape does not follow from what is known.
    """
    wanted = list(network.missing if names is None else names)
    if not wanted:
        return network
    inferred, _ = symbols.infer_shapes(network)
    found = {**{name: array.shape for name, array in network.params.items()}, **inferred, **(shapes or {})}
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise ModelError(
            f"The shape of {unknown[0]!r} does not follow from the network's known shapes ({len(unknown)} such). "
            f"Give the shape of the input without the batch axis, as in infer_shapes({network.inputs[0]}=(3, 224, 224)).")
    fill = initializer or mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    values: dict[str, Any] = {}
    like = next(iter(network.arg_params.values()), mx.nd.zeros(1))  # what has no value yet gets the others' type
    with nullcontext() if seed is None else own_draws():
        if seed is not None:
            mx.random.seed(seed)
        for name in wanted:
            array = mx.nd.zeros(found[name])
            _draw(fill, network.graph, name, array)
            values[name] = array.astype(network.params.get(name, like).dtype, copy=False)
    return with_params(network, values)


def _draw(fill: Any, graph: Graph, name: str, array: Any) -> None:
    attrs, role = dict(graph.by_name[name].attrs), _role(graph, name)
    if role in _FIXED:
        attrs.setdefault("__init__", _FIXED[role])
    # MXNet goes by the end of the name, and other libraries name otherwise: PyTorch's BatchNorm has a "weight"
    unlike = role in _KNOWN_ENDS and not name.endswith(role) and not isinstance(fill, mx.init.Load)
    try:
        fill(mx.init.InitDesc(f"{name}_{role}" if unlike else name, attrs), array)  # its own "__init__" goes first
    except (ValueError, TypeError) as error:
        raise ModelError(f"No initial value can be drawn for {name!r} of shape {array.shape}: {error}") from error


def _role(graph: Graph, name: str) -> str | None:
    """What a parameter is to all the layers that read it; None where they do not tell, or not the same."""
    found = {operators.role(graph.by_name[user].op, position) for user, position in graph.consumers[name]}
    role = found.pop() if len(found) == 1 else None
    if role is None and not name.endswith(_KNOWN_ENDS) and _is_added(graph, name):
        return "bias"
    return role


def _is_added(graph: Graph, name: str) -> bool:
    """Whether a parameter is only ever added to what a layer with weights gives, as other formats write a bias."""
    users = [graph.by_name[user] for user, _ in graph.consumers[name]]
    weighted = operators.WEIGHTED
    return bool(users) and all(user.op in _SUMS and any(graph.by_name[edge.node].op in weighted for edge in user.inputs)
                               for user in users)
