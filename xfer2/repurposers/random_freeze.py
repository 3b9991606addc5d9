"""Training with some layers frozen and others drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from xfer2._mxnet import mx
from xfer2._validation import as_names, check_integer, parameter_error
from xfer2.model_handler import params
from xfer2.model_handler.answers import features_layer
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Graph
from xfer2.model_handler.handler import ModelHandler
from xfer2.repurposers._layers import add_dense, cut
from xfer2.repurposers._network import NeuralNetworkRepurposer


class NeuralNetworkRandomFreezeRepurposer(NeuralNetworkRepurposer):
    """Drops the top of a trained network, puts a dense layer there, holds some layers fixed and draws others anew.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    target_class_count : int, optional
        Checked against the labels; by default what they say.
    fixed_layers, random_layers : str or list of str
        Layers not to train, and layers to begin anew, by name or by pattern (``"stage1_*"``); no layer can be both. All
        others are fine-tuned.
    num_layers_to_drop : int, optional
        From the output down; by default the last dense layer or convolution, and all above it.
    context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params
        See `NeuralNetworkRepurposer`.
    **settings
        See `NeuralNetworkRepurposer`.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.NeuralNetworkRandomFreezeRepurposer(
    ...     "zoo:mnist-cnn", fixed_layers=["conv0", "conv1"], random_layers=["dense0"], num_epochs=2)
    >>> repurposer.repurpose(images, ["odd", "even"] * 10).predict_label(images[:1]).shape
    (1,)
    """

    method: ClassVar[str] = "random-freeze"

    def __init__(self, source_model: Any, target_class_count: int | None = None, fixed_layers: str | Sequence[str] = (),
                 random_layers: str | Sequence[str] = (), num_layers_to_drop: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 30, optimizer: str = "adam", optimizer_params: Mapping[str, Any] | None = None,
                 **settings: Any) -> None:
        super().__init__(source_model, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params,
                         target_class_count=target_class_count, **settings)
        self.fixed_layers = fixed_layers
        self.random_layers = random_layers
        self.num_layers_to_drop = num_layers_to_drop

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        owner = type(self).__name__
        if self.num_layers_to_drop is None:
            last = features_layer(owner, source.network, "Say num_layers_to_drop.")
        else:
            kept = source.copy().drop_layer_top(check_integer(owner, "num_layers_to_drop", self.num_layers_to_drop))
            last = query.output_name(kept.network.graph, kept.network.graph.outputs[0])
        target = cut(source, last)
        fixed, drawn = (self._kept(name, source.network.graph, target) for name in ("fixed_layers", "random_layers"))
        held = set(params.owned_by(target.network, fixed))
        both = [layer for layer in drawn if layer in fixed or held.intersection(target.network.layer_parameters[layer])]
        if both:
            raise parameter_error(owner, "random_layers", "layers that are not among fixed_layers and share no parameter "
                                  "with them", both[0])
        if fixed:
            target.freeze(fixed)
        if drawn:
            target.unfreeze(drawn).reinitialize(drawn)
        return add_dense(target, class_count)

    def _kept(self, name: str, source: Graph, target: ModelHandler) -> tuple[str, ...]:
        """The layers that a parameter names, without those that are dropped: these are anew in any case."""
        owner, layers = type(self).__name__, [layer for layer in target.layer_names if layer in source.by_name]
        named = query.matching_layers(source, as_names(owner, name, getattr(self, name), may_be_empty=True))
        kept = tuple(layer for layer in named if layer in layers)
        if named and not kept and name == "fixed_layers":
            raise parameter_error(owner, name, f"layers that stay, up to {layers[-1]!r}", getattr(self, name),
                                  "num_layers_to_drop says how many go.")
        return kept
