"""Fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from xfer2._mxnet import mx
from xfer2._validation import as_names
from xfer2.model_handler import symbols
from xfer2.model_handler.answers import last_features
from xfer2.model_handler.graph import stages
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers._layers import add_dense, layers_below, named_below, reading_below, up_to_features
from xfer2.repurposers._network import NeuralNetworkRepurposer
from xfer2.repurposers._training_run import features_suffice


class NeuralNetworkFineTuneRepurposer(NeuralNetworkRepurposer):
    """Keeps a trained network up to one layer, puts a dense layer on it, and trains both.

    The dense layer reads that layer, the features, and means of layers below it, which are less made for the source's own
    classes (Evci et al. 2022, Head2Toe, arXiv:2201.03529). It starts as a logistic regression on them, so that training
    changes good features no more than it must (Kumar et al. 2022, arXiv:2202.10054). Where no epoch has a lower validation
    loss than this start, the features suffice: the network then is that regression, fitted to the validation examples too,
    and `outcome_` says so. It is fitted to 5,000 examples at most.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    transfer_layer_name : str, optional
        The last layer that is kept; by default what the source's last dense layer or convolution reads. The new layer reads
        all of it, or the mean of its maps where the source's own answer is the mean of a convolution's, as SqueezeNet's is;
        so in every method.
    target_class_count, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params
        See `NeuralNetworkRepurposer`.
    fixed_layers : str or list of str
        Layers not to train, by name or by pattern (``"stage1_*"``).
    intermediate_layers : "stages", str or list of str
        Layers below the features that the new layer reads as well; see `TowerRepurposer`. With ``()`` none.
    **settings
        See `NeuralNetworkRepurposer`.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.NeuralNetworkFineTuneRepurposer("zoo:mnist-cnn", "dense0", num_epochs=2)
    >>> repurposer.repurpose(images, ["odd", "even"] * 10).predict_label(images[:1]).shape
    (1,)
    """

    method: ClassVar[str] = "fine-tune"

    def __init__(self, source_model: Any, transfer_layer_name: str | None = None, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 30, optimizer: str = "adam", optimizer_params: Mapping[str, Any] | None = None, *,
                 fixed_layers: str | Sequence[str] = (), intermediate_layers: str | Sequence[str] = stages.STAGES,
                 **settings: Any) -> None:
        super().__init__(source_model, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params,
                         target_class_count=target_class_count, **settings)
        self.transfer_layer_name = transfer_layer_name
        self.fixed_layers = fixed_layers
        self.intermediate_layers = intermediate_layers

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        owner = type(self).__name__
        target = ModelHandler(up_to_features(owner, source, self.transfer_layer_name))
        fixed = as_names(owner, "fixed_layers", self.fixed_layers, may_be_empty=True)
        if fixed:
            target.freeze(fixed)
        shapes = symbols.layer_shapes(target.network)
        below = layers_below(owner, target.network, self.intermediate_layers, shapes)
        return add_dense(ModelHandler(reading_below(target.network, below, shapes)), class_count)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        named_below(type(self).__name__, self.intermediate_layers)

    def _probed_layer(self, network: Network) -> str | None:
        return last_features(network)

    def _outcome(self, history: Sequence[Mapping[str, float]], best_epoch: int, averaged: int) -> str:
        return super()._outcome(history, best_epoch, averaged) if best_epoch else features_suffice(
            self.transfer_layer_name, history)
