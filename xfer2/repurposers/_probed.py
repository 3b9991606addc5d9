"""Repurposers whose new dense layer starts as a logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xfer2._mxnet import mx
from xfer2._validation import as_names, nearest, parameter_error
from xfer2.model_handler import symbols
from xfer2.model_handler.answers import last_features
from xfer2.model_handler.graph import stages
from xfer2.model_handler.network import Network
from xfer2.repurposers._network import NeuralNetworkRepurposer


class ProbedRepurposer(NeuralNetworkRepurposer):
    """Base of repurposers that put a dense layer on the source's features, and on means of what is known below these.

    The last layer is made for the source's own classes, and what others need is often below it (Evci et al. 2022,
    Head2Toe, arXiv:2201.03529). The dense layer starts as a logistic regression.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    transfer_layer_name : str, optional
        The source's features; by default what its last dense layer or convolution reads.
    target_class_count, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params
        See `NeuralNetworkRepurposer`.
    intermediate_layers : "stages", str or list of str
        Layers of the source below its features that are read as well, maps as means over 3 by 3 fields, or fewer where that
        is more than 1,024 numbers. By default the last maps of each size, and early, middle and late states of unrolled
        recurrent layers; the regression takes those that it is better with. With ``()`` none, as in the papers.
    **settings
        See `NeuralNetworkRepurposer`.
    """

    def __init__(self, source_model: Any, transfer_layer_name: str | None = None, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 30, optimizer: str = "adam", optimizer_params: Mapping[str, Any] | None = None, *,
                 intermediate_layers: str | Sequence[str] = stages.STAGES, **settings: Any) -> None:
        super().__init__(source_model, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params,
                         target_class_count=target_class_count, **settings)
        self.transfer_layer_name = transfer_layer_name
        self.intermediate_layers = intermediate_layers

    def _below(self, network: Network) -> tuple[list[tuple[str, ...]], stages.Shapes]:
        """What is read of a network, which ends in its features, beside these: each group of layers by its mean.

        With the shapes of its layers' outputs, without the batch axis.
        """
        names, shapes = self._intermediate_names(), symbols.layer_shapes(network)
        if names == (stages.STAGES,):
            return stages.stages(network.graph, network.parameter_names, shapes), shapes
        known = [name for name in network.graph.layer_names if name != network.graph.outputs[0].node]
        for name in names:
            if name not in known:
                raise parameter_error(type(self).__name__, "intermediate_layers", f"{stages.STAGES!r} or layers below the "
                                      f"features, like {', '.join(map(repr, nearest(name, known)))}", name)
        return [(name,) for name in names], shapes

    def _intermediate_names(self) -> tuple[str, ...]:
        return as_names(type(self).__name__, "intermediate_layers", self.intermediate_layers, may_be_empty=True)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._intermediate_names()

    def _probed_layer(self, network: Network) -> str | None:
        return last_features(network)

    def _predicts_as_regression(self) -> bool:
        """Whether the target, before it is trained, gives what the regression on the source's layers gives."""
        return True

    def _outcome(self, history: Sequence[Mapping[str, float]], best_epoch: int, averaged: int) -> str:
        if best_epoch or not self._predicts_as_regression():
            return super()._outcome(history, best_epoch, averaged)
        whose = "the source" if self.transfer_layer_name is None else repr(self.transfer_layer_name)
        return (f"The features of {whose} suffice: none of {len(history)} epochs of training had a lower validation loss "
                "than logistic regression on them, which is what predicts.")
