"""ModelHandler: one trained network, edited in place, and all that can be made of it. A facade over the other rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xfer2._mxnet import Block, Module, Symbol, mx
from xfer2._validation import as_names, check_choice, check_integer, check_kind, check_shape, parameter_error
from xfer2.data.batches import open_batches
from xfer2.exceptions import ModelError
from xfer2.features.engines.automatic import engine_on
from xfer2.features.engines.mxnet import devices
from xfer2.features.extractor import POOLS, extract
from xfer2.features.store import Features
from xfer2.model_handler import edits, mxnet_files, onnx_export, params, picture, sources, summary, symbols, targets
from xfer2.model_handler.graph import edit, query
from xfer2.model_handler.network import Network, Preprocessing
from xfer2.visualization.network_graph import plot_network

Shape = tuple[int, ...]


class ModelHandler:
    """Reads a trained network, edits it, and hands out what the edit gives.

    Every edit returns the handler, so edits chain. An edit happens wholly or raises and leaves the handler as it was;
    what it keeps computes exactly what it computed before.

    Parameters
    ----------
    model : Module, Block, checkpoint prefix, (symbol, arg_params, aux_params), ``"zoo:NAME"``, ``"gluoncv:NAME"``, ...
        See `xfer2.model_handler.sources.read`.
    context_function : callable
        Gives the device of a number: ``mx.cpu`` or ``mx.gpu``.
    num_devices : int
        Devices to compute on.
    data_name : str
        The input that `drop_layer_bottom` and `add_layer_bottom` work at. Where the network has one input, that one.

    Attributes
    ----------
    network : Network
        The network as it is now, an immutable value.
    devices : list of mx.Context

    Examples
    --------
    >>> from xfer2.model_handler import ModelHandler
    >>> handler = ModelHandler("zoo:mnist-cnn").truncate("dense0").freeze(until="pool0")
    >>> handler.layer_names[-1]
    'dense0'
    """

    def __init__(self, model: Any, context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1,
                 data_name: str = "data") -> None:
        self.network: Network = sources.read(model)
        self.devices = devices("ModelHandler", context_function, num_devices)
        self._data_name = data_name

    def __repr__(self) -> str:
        return (f"ModelHandler({len(self.layer_names)} layers, inputs {', '.join(self.network.inputs)}, "
                f"outputs {', '.join(edge.node for edge in self.network.graph.outputs)})")

    # --- what the network is ------------------------------------------------------------------------------------

    @property
    def symbol(self) -> Symbol:
        """The network as an MXNet symbol."""
        return symbols.to_symbol(self.network.graph)

    @property
    def arg_params(self) -> dict[str, Any]:
        """Trained parameters by name, in a dict of its own; ``arg_params[name][:] = value`` changes one."""
        return dict(self.network.arg_params)

    @property
    def aux_params(self) -> dict[str, Any]:
        """Statistics that training updates by itself, by name."""
        return dict(self.network.aux_params)

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers, in topological order."""
        return list(self.network.graph.layer_names)

    @property
    def layer_type_dict(self) -> dict[str, str]:
        """Type of each layer, by name."""
        return {name: self.get_layer_type(name) for name in self.layer_names}

    @property
    def data_name(self) -> str:
        """The input at the bottom of the network."""
        inputs = self.network.inputs
        if self._data_name in inputs:
            return self._data_name
        if len(inputs) == 1:
            return inputs[0]
        raise ModelError(f"The network has the inputs {', '.join(inputs) or 'none'}, none of them {self._data_name!r}; "
                         "choose one with ModelHandler(model, data_name=...).")

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How images become the network's input; None where nobody said. Assign a `Preprocessing` or a dict."""
        return self.network.preprocessing

    @preprocessing.setter
    def preprocessing(self, record: Preprocessing | Mapping[str, Any] | None) -> None:
        value = Preprocessing.from_mapping(record) if isinstance(record, Mapping) else record
        if value is not None and not isinstance(value, Preprocessing):
            raise parameter_error("ModelHandler", "preprocessing", "a Preprocessing, a dict or None", record)
        if value is not None and value.input_name not in self.network.inputs:
            raise parameter_error("ModelHandler", "preprocessing.input_name",
                                  f"an input of the network ({', '.join(self.network.inputs)})", value.input_name)
        shapes = {name: shape for name, shape in self.network.input_shapes.items()
                  if value is None or name != value.input_name}
        changed = replace(self.network, preprocessing=value, input_shapes=shapes)
        symbols.infer_shapes(changed)
        self.network = changed

    def get_layer_type(self, layer_name: str) -> str:
        """Type (operator) of one layer."""
        return self.network.graph.layer(layer_name).op or ""

    def get_layer_names_matching_type(self, layer_type: str) -> list[str]:
        """Names of the layers of one type; upper and lower case are alike."""
        return [name for name, kind in self.layer_type_dict.items() if kind.lower() == layer_type.lower()]

    def get_layer_parameters(self, layer_names: str | Iterable[str]) -> list[str]:
        """Names of the parameters and statistics of some layers, by name or pattern, found through the graph's edges."""
        names = as_names("get_layer_parameters", "layer_names", layer_names)
        return list(params.owned_by(self.network, query.matching_layers(self.network.graph, names)))

    def infer_shapes(self, **input_shapes: Shape) -> dict[str, Shape | None]:
        """Output shape of every layer, without the batch axis.

        Parameters
        ----------
        **input_shapes : tuple of int
            Shapes of inputs, without the batch axis; they are remembered. Not needed where the network's record,
            a bound Module or the preprocessing says them.

        Returns
        -------
        dict of str to tuple of int or None
            None where a shape does not follow from what is known.
        """
        shapes_of_inputs = {**self.network.input_shapes, **self._shapes("infer_shapes", input_shapes)}
        changed = replace(self.network, input_shapes=shapes_of_inputs)
        shapes = symbols.layer_shapes(changed)
        self.network = changed
        return shapes

    def summary(self, **input_shapes: Shape) -> summary.Summary:
        """The network as a table: layer, type, output shape, parameters, FLOPs, frozen."""
        return summary.summarize(self.network, self._shapes("summary", input_shapes))

    def diff(self, other: Any) -> str:
        """What is different in `other` (anything `ModelHandler` reads), a line each; empty where nothing is."""
        return summary.differences(self.network, sources.read(other, "diff", "other"))

    def visualize_net(self, **input_shapes: Shape) -> Any:
        """The graph as a picture: a ``graphviz.Digraph``, which notebooks show and ``.render(path)`` writes."""
        return picture.draw(self.network, self._shapes("visualize_net", input_shapes))

    def plot(self, ax: Any = None, **input_shapes: Shape) -> Any:
        """The graph as a matplotlib picture, frozen layers marked; gives the Axes: ``.figure.savefig(path)`` writes it.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default a new figure's, as large as the network asks for.
        **input_shapes : tuple of int
            Shapes of inputs, without the batch axis, where the network does not know them.
        """
        return plot_network(*picture.layers_and_edges(self.network, self._shapes("plot", input_shapes)), ax)

    def copy(self) -> ModelHandler:
        """A handler of the same network; edits of one do not touch the other."""
        other = object.__new__(type(self))
        other.network, other.devices, other._data_name = self.network, list(self.devices), self._data_name
        return other

    # --- edits ----------------------------------------------------------------------------------------------------

    def drop_layer_top(self, num_layers_to_drop: int = 1) -> ModelHandler:
        """Drop layers from the output down; an error where a dropped layer has several inputs."""
        count = check_integer("drop_layer_top", "num_layers_to_drop", num_layers_to_drop)
        return self._become(edits.drop_top(self.network, count))

    def drop_layer_bottom(self, num_layers_to_drop: int = 1) -> ModelHandler:
        """Drop layers from the input up; the input then has the shape that the dropped layers gave.

        Raises
        ------
        ModelError
            The input feeds several layers, so that which to drop is ambiguous.
        """
        count = check_integer("drop_layer_bottom", "num_layers_to_drop", num_layers_to_drop)
        return self._become(edits.drop_bottom(self.network, count, self.data_name))

    def add_layer_top(self, layer_list: Any) -> ModelHandler:
        """Put layers on the output: symbols, blocks or anything `ModelHandler` reads, the first one lowest.

        Parameters without values stay without until they are trained, or drawn by `reinitialize`.
        """
        return self._become(edits.add_top(self.network, _networks("add_layer_top", layer_list)))

    def add_layer_bottom(self, layer_list: Any) -> ModelHandler:
        """Put layers between the input and its readers, the first one lowest."""
        return self._become(edits.add_bottom(self.network, _networks("add_layer_bottom", layer_list), self.data_name))

    def truncate(self, layer: str) -> ModelHandler:
        """Keep all up to and including one layer, which becomes the only output."""
        return self._become(edits.with_graph(self.network, edit.truncate(self.network.graph, layer, self.network.params)))

    def extract(self, outputs: str | Iterable[str], inputs: str | Iterable[str] | None = None) -> ModelHandler:
        """Keep the part between `inputs` and `outputs`.

        Parameters
        ----------
        outputs : str or iterable of str
            Layers that become the outputs.
        inputs : str or iterable of str, optional
            Layers whose outputs become the inputs, under the same names; by default the network keeps its own.
        """
        return self._become(edits.extract(self.network, as_names("extract", "outputs", outputs),
                                          None if inputs is None else as_names("extract", "inputs", inputs)))

    def remove(self, layer: str, keep: str | None = None) -> ModelHandler:
        """Take one layer out; what read it reads its input. With several inputs, `keep` names the one that stays."""
        graph = edit.remove(self.network.graph, layer, self.network.params, keep)
        return self._become(edits.with_graph(self.network, graph))

    def replace(self, layer: str, new: Any) -> ModelHandler:
        """Put `new` (a symbol, a block, anything `ModelHandler` reads) in the place of one layer."""
        return self._become(edits.replace_layer(self.network, layer, sources.read(new, "replace", "new")))

    def insert_after(self, layer: str, new: Any) -> ModelHandler:
        """Put `new` behind one layer, or behind an input."""
        return self._become(edits.insert_after(self.network, layer, sources.read(new, "insert_after", "new")))

    def rename(self, old: str, new: str) -> ModelHandler:
        """Rename a layer, and with it its own parameters ``OLD_weight`` to ``NEW_weight``; or rename an input."""
        check_kind("rename", "new", new, str, "a name")
        return self._become(edits.rename(self.network, old, new))

    def replace_head(self, num_classes: int, seed: int | None = None) -> ModelHandler:
        """Give the last dense (or 1x1 convolution) layer another number of classes, with freshly drawn parameters.

        Raises
        ------
        ModelError
            No such layer feeds the output, or several do.
        """
        count = check_integer("replace_head", "num_classes", num_classes, 2)
        return self._become(edits.replace_head(self.network, count, seed))

    def compose(self, other: Any, prefix: str = "") -> ModelHandler:
        """Put another network on this one's outputs: its inputs take them in order.

        Parameters
        ----------
        other : model
            Anything `ModelHandler` reads, with as many inputs as this network has outputs.
        prefix : str
            Put before the other network's names, where they clash.
        """
        return self._become(edits.compose_networks(self.network, sources.read(other, "compose", "other"), prefix))

    def freeze(self, layers: str | Iterable[str] | None = None, *, until: str | None = None) -> ModelHandler:
        """Hold parameters and BatchNorm statistics of layers fixed through training.

        Parameters
        ----------
        layers : str or iterable of str, optional
            These layers, by name or by pattern (``"stage1_*"``); all, if neither argument is given.
        until : str, optional
            This layer and all that feeds it.
        """
        return self._become(replace(self.network, frozen=self.network.frozen | self._chosen("freeze", layers, until)))

    def unfreeze(self, layers: str | Iterable[str] | None = None, *, until: str | None = None) -> ModelHandler:
        """Undo `freeze` for these layers; for all, if neither argument is given."""
        return self._become(replace(self.network, frozen=self.network.frozen - self._chosen("unfreeze", layers, until)))

    def reinitialize(self, layers: str | Iterable[str] | None = None, initializer: Any = None,
                     seed: int | None = None) -> ModelHandler:
        """Draw new parameters for these layers, by name or pattern; without `layers`, for all that have no values yet."""
        names = None
        if layers is not None:
            chosen = query.matching_layers(self.network.graph, as_names("reinitialize", "layers", layers))
            names = params.owned_by(self.network, chosen)
        return self._become(params.initialize(self.network, names, initializer, seed=seed))

    def update_sym(self, new_symbol: Symbol) -> ModelHandler:
        """Put another symbol in the graph's place; parameters that it does not have are dropped."""
        check_kind("update_sym", "new_symbol", new_symbol, mx.sym.Symbol, "a symbol")
        return self._become(edits.with_graph(self.network, symbols.from_symbol(new_symbol)))

    # --- what can be made of it -----------------------------------------------------------------------------------

    def get_block(self, context: Any = None) -> Block:
        """A Gluon block that computes and trains the network; frozen parameters have ``grad_req="null"``."""
        return targets.to_block(self.network, context or self.devices[0])

    def get_module(self, iterator: Any, fixed_layer_parameters: Iterable[str] | None = None,
                   random_layer_parameters: Iterable[str] | None = None, for_training: bool = True) -> Module:
        """A Module bound to an iterator's shapes, with the network's parameters; missing ones are drawn.

        Parameters
        ----------
        iterator : mx.io.DataIter
        fixed_layer_parameters : iterable of str, optional
            Parameters to hold fixed beside those of frozen layers.
        random_layer_parameters : iterable of str, optional
            Parameters to draw anew.
        for_training : bool
        """
        if not hasattr(iterator, "provide_data"):
            raise parameter_error("get_module", "iterator", "an mx.io.DataIter, by whose shapes it is bound", iterator)
        fixed = self._parameter_names("fixed_layer_parameters", fixed_layer_parameters)
        drawn = self._parameter_names("random_layer_parameters", random_layer_parameters)
        return targets.to_module(params.without(self.network, drawn), iterator.provide_data, iterator.provide_label,
                                 self.devices, for_training, fixed)

    def get_layer_output(self, data_iterator: Any, layer_names: str | Iterable[str]) -> tuple[dict[str, np.ndarray], Any]:
        """Features of some layers, each flattened to (n, d), and the labels; `features` gives them with their shapes."""
        found = self.features(data_iterator, layer_names)
        return {layer: found.flat(layer) for layer in found.layers}, found.labels

    def features(self, data: Any, layers: str | Iterable[str], *, labels: Any = None, pool: str | None = None,
                 batch_size: int = 32, errors: str = "raise", store: str | None = None) -> Features:
        """As `xfer2.extract_features`, of this network on this handler's devices."""
        names = as_names("ModelHandler.features", "layers", layers)
        check_choice("ModelHandler.features", "pool", pool, POOLS)
        batches = open_batches(data, self.network, labels, batch_size, errors, "ModelHandler.features")
        return extract(self.network, batches, names, pool, store, engine_on(self.devices))

    def save(self, prefix: str, epoch: int = 0) -> list[str]:
        """Write a checkpoint that plain MXNet loads, and the preprocessing record beside it."""
        return mxnet_files.write(self.network, prefix, check_integer("save", "epoch", epoch, 0))

    def save_symbol(self, model_name: str) -> None:
        """Write ``MODEL_NAME-symbol.json`` only."""
        path = f"{model_name}-symbol.json"
        try:
            Path(path).write_text(self.symbol.tojson(), encoding="utf-8")
        except OSError as error:
            raise ModelError(f"save_symbol: {path!r} cannot be written: {error.strerror}.") from error

    def export_onnx(self, path: str, **input_shapes: Shape) -> None:
        """Write an ONNX file with a dynamic batch axis."""
        onnx_export.save_onnx(self.network, path, self._shapes("export_onnx", input_shapes))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _shapes(self, owner: str, given: Mapping[str, Any]) -> dict[str, Shape]:
        unknown = [name for name in given if name not in self.network.inputs]
        if unknown:
            raise parameter_error(owner, "the inputs", f"among {', '.join(self.network.inputs)}", unknown[0])
        return {name: check_shape(owner, name, shape) for name, shape in given.items()}

    def _become(self, network: Network) -> ModelHandler:
        self.network = network
        return self

    def _chosen(self, owner: str, layers: Any, until: str | None) -> frozenset[str]:
        if layers is not None and until is not None:
            raise parameter_error(owner, "layers", "left out where until is given", layers)
        graph = self.network.graph
        if until is not None:
            return query.ancestors(graph, [graph.layer(until).name]) & set(graph.layer_names)
        names = graph.layer_names if layers is None else query.matching_layers(graph, as_names(owner, "layers", layers))
        return frozenset(names)

    def _parameter_names(self, name: str, given: Iterable[str] | None) -> list[str]:
        names = [] if given is None else list(given)
        unknown = [n for n in names if n not in self.network.parameter_names]
        if unknown:
            raise parameter_error("get_module", name, "names of parameters, as get_layer_parameters gives them", unknown[0])
        return names


def _networks(owner: str, layer_list: Any) -> list[Network]:
    layers = layer_list if isinstance(layer_list, list) else [layer_list]
    if not layers:
        raise parameter_error(owner, "layer_list", "a layer, or a list of layers", layer_list)
    return [sources.read(layer, owner, "layer_list") for layer in layers]
