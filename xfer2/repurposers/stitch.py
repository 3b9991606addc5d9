"""Stitch networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from xfer2._mxnet import mx
from xfer2._validation import check_positive
from xfer2.exceptions import ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import operators, towers
from xfer2.model_handler.graph.pairs import find_pairs
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers._layers import up_to_features
from xfer2.repurposers._towers import TowerRepurposer, as_frozen, check_unfused, fresh_prefix


class StitchRepurposer(TowerRepurposer):
    """A frozen source and a narrow module beside it, whose layers also read what the source's layers read.

    Parameters
    ----------
    source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size, num_epochs
        See `TowerRepurposer`.
    width : float
        Outputs of the module's layers as a fraction of the source's.
    paired_layers : list of str, optional
        Convolutions and dense layers behind which the module's next layer reads source and module; by default all. Behind
        the last ones the new dense layer reads both in any case.
    learning_rate : float
        Twice that of other methods: all of the module is new, and narrow.
    **settings
        See `TowerRepurposer`, `intermediate_layers` among them, and `NeuralNetworkRepurposer`.

    References
    ----------
    Anderson et al. 2016, Beyond Fine Tuning: A Modular Approach to Learning on Small Data, arXiv:1611.01714, section 4.1.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.StitchRepurposer("zoo:mnist-cnn", num_epochs=2)
    >>> repurposer.repurpose(images, ["odd", "even"] * 10).predict_label(images[:1]).shape
    (1,)
    """

    method: ClassVar[str] = "stitch"

    def __init__(self, source_model: Any, transfer_layer_name: str | None = None, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 60, *, width: float = 0.25, paired_layers: Sequence[str] | None = None,
                 learning_rate: float = 2e-3, **settings: Any) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size,
                         num_epochs, learning_rate=learning_rate, **settings)
        self.width = width
        self.paired_layers = paired_layers

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        owner = type(self).__name__
        network = up_to_features(owner, source, self.transfer_layer_name)
        check_unfused(owner, network)
        known = network.parameter_names
        recurrent = [pair.name for pair in find_pairs(network.graph, known, owner=owner) if pair.is_recurrent]
        if recurrent:
            raise ModelError(f"{owner} is for convolutions and dense layers; {recurrent[0]!r} of the source is recurrent. "
                             "Use PtuRepurposer.")
        chosen = None
        if self.paired_layers is not None:
            chosen = [pair.name for pair in find_pairs(network.graph, known, self.paired_layers, owner)]
        graph = towers.stitched(network.graph, known, self.width, chosen, fresh_prefix(network, "module_"),
                                fresh_prefix(network, "stitch_"), _flattening(network),
                                {name: array.shape for name, array in network.params.items()})
        try:
            both = as_frozen(network, graph)
        except ModelError as error:
            wider = "" if self.width == 1 else "say width=1.0, or "
            raise ModelError(f"{owner}: no module of width {self.width} fits the source: {str(error).rstrip('.')}. To go "
                             f"on, {wider}take the features from below, by transfer_layer_name.") from error
        return self._joined(both, network, class_count)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_positive(type(self).__name__, "width", self.width)


def _flattening(network: Network) -> set[str]:
    """Reshapes that make a vector of all that an example has: ``(-1, 400)`` of (n, 16, 5, 5)."""
    shapes = symbols.layer_shapes(network)
    found = set()
    for node in network.graph.nodes:
        read, made = (shapes.get(name) for name in (node.inputs[0].node if node.inputs else "", node.name))
        if node.op in operators.RESHAPES and read and made == (math.prod(read),):
            found.add(node.name)
    return found
