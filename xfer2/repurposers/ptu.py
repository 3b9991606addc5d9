"""Parameter transfer units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import check_at_least_zero, check_choice
from xfer2.model_handler import params
from xfer2.model_handler.graph import towers
from xfer2.model_handler.graph.pairs import find_pairs
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers._examples import Examples
from xfer2.repurposers._layers import add_dense, reading_below, up_to_features
from xfer2.repurposers._probed import ProbedRepurposer
from xfer2.repurposers._towers import as_frozen, check_unfused, fresh_prefix
from xfer2.training.regularizers import KINDS, WeightPenalty

_NEARLY_CLOSED = -2.0  # sigmoid: 0.12


class PtuRepurposer(ProbedRepurposer):
    """A frozen source and a target of the same layers, which a unit behind every layer lets take from the source.

    A unit has two gates, learned with the target. The update gate z is how much of a layer's output comes from the source,
    the fine-tune gate r how much of that is transformed on the way: z = 0 is training from scratch, z = 1 and r = 0 is a
    frozen layer. Units are depthwise-separable 3x3 convolutions on maps, dense on vectors, and shared by the steps of an
    unrolled recurrent layer. See `xfer2.model_handler.graph.towers.gated` for the equations.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    transfer_layer_name : str, optional
        The last layer that the target has too; by default what the source's last dense layer or convolution reads.
    target_class_count, context_function, num_devices, batch_size, num_epochs
        See `ProbedRepurposer`.
    intermediate_layers : "stages", str or list of str
        Layers of the target below its features that its answer reads as well, those of the source by name; see
        `ProbedRepurposer`. With ``()`` none, as in the paper.
    paired_layers : list of str, optional
        Layers with a unit behind them; by default all convolutions, dense layers and unrolled recurrent layers.
    activation : {"tanh", "relu"}
        Of what a unit makes of the source's output.
    start : {"probe", "source", "random"}
        Where the target's own layers start: as the source's, with both gates nearly closed, and with a logistic regression
        on what the answer reads, a linear probe, for the new layer; or so and with a new layer that is drawn; or all drawn
        anew, as in the paper.
    penalty : {"l1", "l2", "filter", "channel"}, optional
        Of the units' weights; ``"filter"`` and ``"channel"`` are group lassos over their outputs and inputs.
    penalty_weight : float
    **settings
        See `NeuralNetworkRepurposer`.

    Attributes
    ----------
    gates_ : dict of str to tuple of numpy.ndarray
        Of every pair, mean z and mean r over the training examples, by channel (c,).

    References
    ----------
    Zhang et al. 2018, Parameter Transfer Unit for Deep Neural Networks, arXiv:1804.08613.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.PtuRepurposer("zoo:mnist-cnn", num_epochs=2).repurpose(images, ["odd", "even"] * 10)
    >>> list(repurposer.transferability().columns)
    ['layer', 'update', 'fine_tune']
    """

    method: ClassVar[str] = "ptu"

    def __init__(self, source_model: Any, transfer_layer_name: str | None = None, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 30, *, paired_layers: Sequence[str] | None = None, activation: str = "tanh",
                 start: str = "probe", penalty: str | None = None, penalty_weight: float = 1e-4, **settings: Any) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size,
                         num_epochs, **settings)
        self.paired_layers = paired_layers
        self.activation = activation
        self.start = start
        self.penalty = penalty
        self.penalty_weight = penalty_weight

    def transferability(self, per_channel: bool = False) -> Any:
        """How far each layer takes from the source, over the training examples.

        Parameters
        ----------
        per_channel : bool
            One row a channel, with its number, in place of one a layer.

        Returns
        -------
        pandas.DataFrame
            Columns layer, update (mean z) and fine_tune (mean r), from the input up; both between 0 and 1.
        """
        import pandas

        self._check_is_fitted()
        rows = [{"layer": name, "channel": channel, "update": float(z[channel]), "fine_tune": float(r[channel])}
                for name, (z, r) in self.gates_.items() for channel in range(len(z))]
        frame = pandas.DataFrame(rows)
        if per_channel:
            return frame
        return frame.groupby("layer", sort=False)[["update", "fine_tune"]].mean().reset_index()

    def _learned(self) -> dict[str, Any]:
        return {**super()._learned(), "gates_": self.gates_}

    def _drawn(self) -> dict[str, Any]:
        return {**super()._drawn(), "gates": self.transferability(per_channel=True)}

    def _check_parameters(self) -> None:
        super()._check_parameters()
        owner = type(self).__name__
        check_choice(owner, "activation", self.activation, ("tanh", "relu"))
        check_choice(owner, "start", self.start, ("probe", "source", "random"))
        check_choice(owner, "penalty", self.penalty, (None, *KINDS))
        check_at_least_zero(owner, "penalty_weight", self.penalty_weight)

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        owner = type(self).__name__
        network = up_to_features(owner, source, self.transfer_layer_name)
        check_unfused(owner, network)
        pairs = find_pairs(network.graph, network.parameter_names, self.paired_layers, owner)
        prefix, unit_prefix = fresh_prefix(network, "target_"), fresh_prefix(network, "unit_")
        below, shapes = self._below(network)
        graph = towers.gated(network.graph, network.parameter_names, pairs, shapes, self.activation, prefix, unit_prefix,
                             {name: array.shape for name, array in network.params.items()})
        target = as_frozen(network, graph)
        if self.start != "random":
            copies = {prefix + name: array.copy() for name, array in network.params.items()}
            closed = {f"{unit_prefix}{pair.name}_{gate}_bias": mx.nd.full((shapes[pair.ends[0]] or ())[:1], _NEARLY_CLOSED)
                      for pair in pairs for gate in "rz"}
            target = params.with_params(target, {**copies, **closed})
        groups = [[towers.gated_name(name, pairs, prefix, unit_prefix) for name in group] for group in below]
        sizes = {there: shapes[name] for group, own in zip(below, groups, strict=True)
                 for name, there in zip(group, own, strict=True)}
        return add_dense(ModelHandler(reading_below(target, groups, sizes)), class_count)

    def _probed_layer(self, network: Network) -> str | None:
        return super()._probed_layer(network) if self.start == "probe" else None

    def _predicts_as_regression(self) -> bool:
        return False  # the target's layers answer, with gates nearly closed

    def _make_penalty(self, network: Network) -> WeightPenalty | None:
        if self.penalty is None:
            return None
        units = sorted({node.name for node in network.graph.nodes if towers.UNIT in node.attrs} & set(network.arg_params)
                       - network.frozen_parameters)
        depthwise = [node.inputs[1].node for node in network.graph.nodes if node.op == "Convolution"
                     and node.attrs.get("num_group") == node.attrs["num_filter"] != "1"]
        summed = towers.summed_weights(network.graph, units)
        return WeightPenalty(self.penalty, self.penalty_weight, units, depthwise, summed)

    def _more_learned(self, network: Network, examples: Examples, folder: str) -> dict[str, Any]:
        """`gates_`: the gates' activations, averaged over places and, of a recurrent layer, over steps."""
        gates = [node for node in network.graph.nodes if node.op == "Activation" and towers.UNIT in node.attrs
                 and node.name not in network.frozen]
        pooled = examples.through(network, [node.name for node in gates], self._engine(), self.batch_size, folder, "avg")
        found: dict[str, dict[str, list[np.ndarray]]] = {}
        for node in gates:
            mean = np.asarray(pooled.arrays[node.name][:]).mean(axis=0)
            found.setdefault(node.attrs[towers.UNIT], {}).setdefault(node.name[-1], []).append(mean)
        return {"gates_": {pair: tuple(np.mean(means[gate], axis=0) for gate in "zr") for pair, means in found.items()}}
