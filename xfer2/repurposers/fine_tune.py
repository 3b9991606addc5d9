"""Fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from xfer2._mxnet import mx
from xfer2._validation import as_names
from xfer2.model_handler.handler import ModelHandler
from xfer2.repurposers._layers import add_dense, reading_below, up_to_features
from xfer2.repurposers._probed import ProbedRepurposer


class NeuralNetworkFineTuneRepurposer(ProbedRepurposer):
    """Keeps a trained network up to one layer, puts a dense layer on it, and trains both.

    The dense layer reads that layer, the features, and means of layers below it, which are less made for the source's own
    classes (Evci et al. 2022, Head2Toe, arXiv:2201.03529). It starts as a logistic regression on them, so that training
    changes good features no more than it must (Kumar et al. 2022, arXiv:2202.10054). Where no epoch has a lower validation
    loss than this start, the features suffice: the network then is that regression, fitted to all examples, and `outcome_`
    says so. It is fitted to 5,000 examples at most.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    transfer_layer_name : str, optional
        The last layer that is kept; by default what the source's last dense layer or convolution reads. The new layer reads
        all of it, or the mean of its maps where the source's own answer is the mean of a convolution's, as SqueezeNet's is;
        so in every method.
    target_class_count, context_function, num_devices, batch_size, num_epochs, optimizer, optimizer_params
        See `ProbedRepurposer`.
    fixed_layers : str or list of str
        Layers not to train, by name or by pattern (``"stage1_*"``).
    **settings
        See `ProbedRepurposer`, `intermediate_layers` among them, and `NeuralNetworkRepurposer`.

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
                 fixed_layers: str | Sequence[str] = (), **settings: Any) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size,
                         num_epochs, optimizer, optimizer_params, **settings)
        self.fixed_layers = fixed_layers

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        owner = type(self).__name__
        target = ModelHandler(up_to_features(owner, source, self.transfer_layer_name))
        fixed = as_names(owner, "fixed_layers", self.fixed_layers, may_be_empty=True)
        if fixed:
            target.freeze(fixed)
        return add_dense(ModelHandler(reading_below(target.network, *self._below(target.network))), class_count)
