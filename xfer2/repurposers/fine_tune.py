"""Fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from xfer2._mxnet import mx
from xfer2._validation import as_names
from xfer2.model_handler.answers import check_is_below_the_answer, last_features
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers._layers import add_dense, cut
from xfer2.repurposers._network import NeuralNetworkRepurposer
from xfer2.repurposers._training_run import features_suffice


class NeuralNetworkFineTuneRepurposer(NeuralNetworkRepurposer):
    """Keeps a trained network up to one layer, puts a dense layer on it, and trains both.

    The dense layer starts as a logistic regression on that layer's features, so that training changes good features no more
    than it must (Kumar et al. 2022, arXiv:2202.10054). Where no epoch has a lower validation loss than this start, the
    features suffice: the network then is that regression, fitted to the validation examples too, and `outcome_` says so.
    It is fitted to 5,000 examples at most.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    transfer_layer_name : str
        The last layer that is kept. The new layer reads all of it, or the mean of its maps where the source's own answer is
        the mean of a convolution's, as SqueezeNet's is; so in every method.
    target_class_count, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params
        See `NeuralNetworkRepurposer`.
    fixed_layers : str or list of str
        Layers not to train, by name or by pattern (``"stage1_*"``).
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

    def __init__(self, source_model: Any, transfer_layer_name: str, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 64,
                 num_epochs: int = 30, optimizer: str = "adam", optimizer_params: Mapping[str, Any] | None = None, *,
                 fixed_layers: str | Sequence[str] = (), **settings: Any) -> None:
        super().__init__(source_model, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params,
                         target_class_count=target_class_count, **settings)
        self.transfer_layer_name = transfer_layer_name
        self.fixed_layers = fixed_layers

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        check_is_below_the_answer(type(self).__name__, source.network, self.transfer_layer_name)
        target = cut(source, self.transfer_layer_name)
        fixed = as_names(type(self).__name__, "fixed_layers", self.fixed_layers, may_be_empty=True)
        if fixed:
            target.freeze(fixed)
        return add_dense(target, class_count)

    def _probed_layer(self, network: Network) -> str | None:
        return last_features(network)

    def _outcome(self, history: Sequence[Mapping[str, float]], best_epoch: int, averaged: int) -> str:
        return super()._outcome(history, best_epoch, averaged) if best_epoch else features_suffice(
            self.transfer_layer_name, history)
