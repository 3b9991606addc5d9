"""Edits of a Network: the graph's edit, and what it means for parameters, shapes, preprocessing and what is frozen.

Each is a function from a Network to a new one whose shapes still infer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2.exceptions import ModelError
from xfer2.model_handler import params, symbols
from xfer2.model_handler.graph import compose, edit, query
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.network import Network, Params, Preprocessing
from xfer2.model_handler.symbols import Shape


def with_graph(network: Network, graph: Graph, new_params: Params | None = None, **changes: Any) -> Network:
    """The network with another graph and more parameters, if its shapes still infer.

    Raises
    ------
    ModelError
        Shapes contradict each other; the message names the layer.
    """
    changed = network.with_graph(graph, **changes)
    if new_params:
        changed = params.with_params(changed, {k: v for k, v in new_params.items() if k in graph.by_name})
    symbols.infer_shapes(changed)
    _check_reshapes(network, changed)
    return changed


def _check_reshapes(network: Network, changed: Network) -> None:
    """Raise where a Reshape fits a batch no more that it fitted before, or is new and fits none."""
    after = [symbols.misfit_reshapes(changed, batch_size=size) for size in (1, 2)]
    if not any(after):
        return
    before = [symbols.misfit_reshapes(network, batch_size=size) for size in (1, 2)]
    for old, new in zip(before, after, strict=True):
        for name, told in new.items():
            if name not in old and (name in network.graph.by_name or all(name in one for one in after)):
                raise ModelError(f"The shapes of the network contradict each other: {told}")


def drop_top(network: Network, count: int) -> Network:
    """Without the `count` uppermost layers."""
    return with_graph(network, edit.drop_top(network.graph, count, network.params))


def drop_bottom(network: Network, count: int, data_name: str) -> Network:
    """Without the `count` lowest layers; the input then has the shape that they gave, and is no image any more."""
    graph = edit.drop_bottom(network.graph, count, data_name, network.params)
    last = next(name for name in reversed(network.graph.layer_names) if name not in graph.by_name)
    shape = symbols.layer_shapes(network)[last]
    return with_graph(network, graph, input_shapes=_shapes_with(network, data_name, shape),
                      preprocessing=_record_without(network, data_name))


def add_top(network: Network, additions: Sequence[Network]) -> Network:
    """With other networks on its output, the first lowest."""
    values = _params_of(additions)
    graph = edit.add_top(network.graph, [addition.graph for addition in additions], {*network.params, *values})
    return with_graph(network, graph, values, frozen=_frozen_in(network, *additions))


def add_bottom(network: Network, additions: Sequence[Network], data_name: str) -> Network:
    """With other networks between an input and its readers, the first lowest."""
    values = _params_of(additions)
    graph = edit.add_bottom(network.graph, [addition.graph for addition in additions], data_name,
                            {*network.params, *values})
    shapes = _shapes_with(network, data_name, additions[0].input_shapes.get(additions[0].inputs[0]))
    return with_graph(network, graph, values, input_shapes=shapes, preprocessing=_record_without(network, data_name),
                      frozen=_frozen_in(network, *additions))


def extract(network: Network, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> Network:
    """The part between `inputs` (by default the network's own) and `outputs`."""
    graph = edit.extract(network.graph, outputs, inputs, network.params)
    if inputs is None:
        return with_graph(network, graph)
    cut = [query.resolve_output(network.graph, name) for name in inputs]
    _, shapes = symbols.infer_shapes(network, outputs=cut)
    known = {name: shape[1:] for name, shape in zip(inputs, shapes, strict=True) if shape is not None}
    return with_graph(network, graph, input_shapes=known)


def replace_layer(network: Network, layer: str, new: Network) -> Network:
    """With `new` in the place of one layer, its own values or none; frozen where it was, whatever the layer was."""
    graph = edit.replace_layer(network.graph, layer, new.graph, network.params, new.params)
    rest = params.without(network, new.parameter_names)  # values of the old layer under the names of the new one
    return with_graph(rest, graph, new.params, frozen=(network.frozen - {layer}) | new.frozen)


def insert_after(network: Network, layer: str, new: Network) -> Network:
    """With `new` behind one layer, or behind an input, which has the shape that `new` reads where its own does not fit."""
    graph = edit.insert_after(network.graph, layer, new.graph, new.params)
    frozen = _frozen_in(network, new)
    try:
        return with_graph(network, graph, new.params, frozen=frozen)
    except ModelError:
        if layer not in network.inputs:
            raise
    shapes = _shapes_with(network, layer, new.input_shapes.get(new.inputs[0]))
    return with_graph(network, graph, new.params, frozen=frozen, input_shapes=shapes,
                      preprocessing=_record_without(network, layer))


def rename(network: Network, old: str, new: str) -> Network:
    """With a layer under another name, and its own parameters ``OLD_...`` as ``NEW_...``; or with an input renamed."""
    graph = network.graph
    names = {old: new}
    if old not in network.inputs:
        graph.layer(old)
        own = params.owned_by(network, [old])
        names.update({name: new + name[len(old):] for name in own
                      if name.startswith(f"{old}_") and {user for user, _ in graph.consumers[name]} == {old}})
    record = network.preprocessing
    if record is not None:
        record = replace(record, input_name=names.get(record.input_name, record.input_name))
    return with_graph(
        network, edit.rename(graph, names), {new_name: network.params[name] for name, new_name in names.items()
                                             if name in network.params},
        input_shapes={names.get(name, name): shape for name, shape in network.input_shapes.items()},
        frozen=frozenset(names.get(name, name) for name in network.frozen),
        preprocessing=record)


def replace_head(network: Network, num_classes: int, seed: int | None = None) -> Network:
    """With another number of outputs of the dense or convolution layer nearest to the output, drawn afresh."""
    head = edit.head_layer(network.graph)
    own = network.layer_parameters[head]
    shapes, _ = symbols.infer_shapes(network)
    graph = edit.resize_head(network.graph, head, own, num_classes)
    bare = params.without(network.with_graph(graph, frozen=network.frozen - {head}), own)
    resized = {name: (num_classes, *shapes[name][1:]) for name in own if name in shapes}
    changed = params.initialize(bare, own, shapes=resized, seed=seed)
    _check_reshapes(network, changed)
    return changed


def compose_networks(first: Network, second: Network, prefix: str = "") -> Network:
    """`second` on the outputs of `first`, its inputs taking them in order, its names behind `prefix`."""
    graph = compose.map_names(second.graph, lambda name: prefix + name)
    inputs, outputs = [prefix + name for name in second.inputs], first.graph.outputs
    if len(inputs) != len(outputs):
        raise ModelError(f"compose: the network has {len(outputs)} outputs and the other {len(inputs)} inputs; the numbers "
                         "must agree.")
    for edge in outputs:
        edit.require_no_loss(first.graph, edge)
    chained = compose.chain(first.graph, graph, dict(zip(inputs, outputs, strict=True)))
    return with_graph(first, chained, {prefix + name: array for name, array in second.params.items()},
                      frozen=first.frozen | {prefix + name for name in second.frozen})


def beside(first: Network, second: Network, prefix: str) -> Network:
    """Both networks on the same inputs; outputs of `first`, then of `second`.

    Inputs of `second` are those of `first` by name where the names agree, else in their order. All other names of `second`
    are put behind `prefix`.
    """
    if len(first.inputs) != len(second.inputs):
        raise ModelError(f"The network has {len(first.inputs)} inputs ({', '.join(first.inputs)}) and the one beside it "
                         f"{len(second.inputs)}; the numbers must agree.")
    alike = set(first.inputs) == set(second.inputs)
    shared = dict(zip(first.inputs if alike else second.inputs, first.inputs, strict=True))
    graph = compose.map_names(second.graph, lambda name: shared.get(name, prefix + name))
    joined = compose.side_by_side(first.graph, graph, first.inputs)
    return with_graph(first, joined, {prefix + name: array for name, array in second.params.items()},
                      frozen=first.frozen | {prefix + name for name in second.frozen})


def prepared_as(network: Network, record: Preprocessing | None) -> Network:
    """A network of one input that takes its images prepared by another record, and scales and normalises them anew itself.

    As it is where one of the two has no record.
    """
    own = network.preprocessing
    if own is None or record is None or len(network.inputs) > 1:
        return network
    for name in ("input_shape", "color", "resize_short", "crop"):
        if getattr(own, name) != getattr(record, name):
            raise ModelError(f"Two networks that see the same images need them alike: {name} is {getattr(record, name)!r} "
                             f"of one and {getattr(own, name)!r} of the other.")
    (scale, mean, std), (was, mean_was, std_was) = ((one.scale, np.array(one.mean), np.array(one.std))
                                                    for one in (own, record))
    per_channel = own.input_shape[0], 1, 1
    factor, shift = (np.broadcast_to(array, per_channel[:1]).reshape(1, *per_channel).astype(np.float32)
                     for array in (scale * std_was / (was * std), (scale * mean_was / was - mean) / std))
    if (factor == 1).all() and (shift == 0).all():
        return network
    taken = network.graph.by_name
    x = mx.sym.var(compose.fresh_name("as_prepared", taken))
    scaled, prepared = (compose.fresh_name(f"prepared_{part}", taken) for part in ("scaled", "shifted"))
    values = {f"{scaled}_weight": mx.nd.array(factor), f"{prepared}_bias": mx.nd.array(shift)}
    weight, bias = (mx.sym.var(name, shape=array.shape) for name, array in values.items())
    x = mx.sym.broadcast_add(mx.sym.broadcast_mul(x, weight, name=scaled), bias, name=prepared)
    below = replace(params.assemble(x, values), frozen=frozenset((scaled, prepared)), preprocessing=record)
    return compose_networks(below, network)


def _frozen_in(*networks: Network) -> frozenset[str]:
    return frozenset().union(*(network.frozen for network in networks))


def _record_without(network: Network, data_name: str) -> Preprocessing | None:
    """The preprocessing record, unless it is for the input that changes."""
    record = network.preprocessing
    return None if record is None or record.input_name == data_name else record


def _params_of(additions: Sequence[Network]) -> dict[str, Any]:
    return {name: array for network in additions for name, array in network.params.items()}


def _shapes_with(network: Network, name: str, shape: Shape | None) -> Mapping[str, Shape]:
    others = {key: value for key, value in network.input_shapes.items() if key != name}
    return others if shape is None else {**others, name: shape}
