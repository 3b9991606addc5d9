"""Two towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from xfer2._mxnet import mx
from xfer2._validation import check_at_least_zero, check_integer, parameter_error
from xfer2.model_handler import archive, edits, params, sources
from xfer2.model_handler.graph import edit
from xfer2.model_handler.handler import ModelHandler
from xfer2.model_handler.network import Network
from xfer2.repurposers._examples import Examples
from xfer2.repurposers._layers import up_to_features, with_outputs
from xfer2.repurposers._towers import TowerRepurposer, as_frozen, fresh_prefix, module_features
from xfer2.training.balanced import BalancedTrainer
from xfer2.training.loop import Trainer
from xfer2.training.regularizers import ActivityPenalty


class TwoTowerRepurposer(TowerRepurposer):
    """A frozen source beside a module that is trained; the features of both feed dense layers.

    Parameters
    ----------
    source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size, num_epochs
        See `TowerRepurposer`.
    module : HybridBlock or model, optional
        Whatever `ModelHandler` reads, of as many inputs as the source, which are the source's by name where the names agree,
        else in order; and of one output, features (n, d). What has no values is drawn. One that was trained on images scaled
        or normalised otherwise scales the source's input anew. By default a copy of the source up to its features, that
        starts from its values.
    hidden_units : sequence of int
        Sizes of dense layers with ReLU between the features and the answer, as (256, 256); by default none, and the answer
        starts as logistic regression on the source's features.
    activity_l2 : float
        Weight of the sum of squares of the module's outputs in the loss of an example.
    repeats : int
        Times that each batch is trained on before the next; batches have the classes alike.
    **settings
        See `TowerRepurposer`, `intermediate_layers` among them, and `NeuralNetworkRepurposer`.

    References
    ----------
    Anderson et al. 2016, Beyond Fine Tuning: A Modular Approach to Learning on Small Data, arXiv:1611.01714, section 3.2
    (equation 2) and section 4.2.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = xfer2.TwoTowerRepurposer("zoo:mnist-cnn", num_epochs=2)
    >>> repurposer.repurpose(images, ["odd", "even"] * 10).predict_label(images[:1]).shape
    (1,)
    """

    method: ClassVar[str] = "two-tower"
    _shared_by_clones: ClassVar[tuple[str, ...]] = ("source_model", "validation", "module")

    def __init__(self, source_model: Any, transfer_layer_name: str | None = None, target_class_count: int | None = None,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, batch_size: int = 200,
                 num_epochs: int = 12, *, module: Any = None, hidden_units: Sequence[int] = (), activity_l2: float = 1e-6,
                 repeats: int = 5, **settings: Any) -> None:
        super().__init__(source_model, transfer_layer_name, target_class_count, context_function, num_devices, batch_size,
                         num_epochs, **settings)
        self.module = module
        self.hidden_units = hidden_units
        self.activity_l2 = activity_l2
        self.repeats = repeats

    def _make_target(self, source: ModelHandler, class_count: int) -> ModelHandler:
        owner = type(self).__name__
        network = up_to_features(owner, source, self.transfer_layer_name)
        read = self._read_module()
        if read is None:
            module = replace(network, frozen=frozenset())  # with its Dropout
        else:
            module = params.cast(read, "float32")
            module = edits.with_graph(module, edit.as_inference(module.graph))
            module = edits.prepared_as(module, network.preprocessing)
        both = edits.beside(as_frozen(network), module, fresh_prefix(network, "module_"))
        return self._joined(both, network, class_count, self.hidden_units)

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        check_integer(owner, "repeats", self.repeats)
        super()._check_parameters()
        check_at_least_zero(owner, "activity_l2", self.activity_l2)
        if not isinstance(self.hidden_units, Sequence):
            raise parameter_error(owner, "hidden_units", "a list of integers", self.hidden_units)
        for number in self.hidden_units:
            check_integer(owner, "hidden_units", number)

    def _predicts_as_regression(self) -> bool:
        return not self.hidden_units

    def _new_trainer(self, block: Any, **settings: Any) -> Trainer:
        if isinstance(self.class_weight, str):  # "balanced", which the batches are already
            settings["class_weights"] = None
        return BalancedTrainer(block, repeats=self.repeats, **settings)

    def _with_objectives(self, network: Network) -> Network:
        return with_outputs(network, [module_features(network)])

    def _make_penalty(self, network: Network) -> ActivityPenalty:
        return ActivityPenalty(self.activity_l2)

    def _saved_parameters(self) -> dict[str, Any]:
        return {**super()._saved_parameters(), "module": None}

    def _more_learned(self, network: Network, examples: Examples, folder: str) -> dict[str, Any]:
        """`module_network_`: the module as it was read, which may be in files that change, or a block that trains on."""
        return {"module_network_": self._read_module()}

    def _read_module(self) -> Network | None:
        return None if self.module is None else sources.read(self.module, type(self).__name__, "module")

    def _to_files(self) -> dict[str, bytes]:
        files = super()._to_files()
        return files if self.module_network_ is None else {**files, **archive.to_files(self.module_network_, "module")}

    def _from_files(self, files: Mapping[str, bytes], learned: dict[str, Any], trusted: tuple[str, ...]) -> None:
        super()._from_files(files, learned, trusted)
        self.module = self.module_network_ = archive.from_files(files, "module") if "module.json" in files else None
