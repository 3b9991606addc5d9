"""One row per repurposer: how the common checks make it. A method of the registry without a row fails."""

from dataclasses import dataclass, field
from typing import Any

from sklearn.linear_model import LogisticRegression

import xfer2


@dataclass(frozen=True)
class Row:
    """A repurposer's class, its arguments beyond source and layers, one of them changed, which names a layer and how."""

    cls: type
    arguments: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Any] = field(default_factory=lambda: {"feature_layer_names": ["relu1", "fc1"]})
    expected_failures: dict[str, str] = field(default_factory=dict)  # check's name -> reason

    def make(self, source, **more):
        return self.cls(source, **{**self.layers, **self.arguments, **more})

    def make_with_layer(self, source, name):
        """With another layer's name in the place of its own."""
        parameter, own = next(iter(self.layers.items()))
        return self.make(source, **{parameter: name if isinstance(own, str) else [name]})


TWICE = {"random_state": 0, "num_epochs": 12, "learning_rate": 0.02, "batch_size": 16}
TRAINED = {**TWICE, "refit": False}  # once: repurposers/test_refit.py trains each again

INSTANCES = {
    "lr": Row(xfer2.LrRepurposer, {"random_state": 0}, {"c": 0.01}),
    "svm": Row(xfer2.SvmRepurposer, {"random_state": 0}, {"c": 1.0}),
    "gp": Row(xfer2.GpRepurposer, {"random_state": 0, "max_function_evaluations": 10, "num_samples_mc_prediction": 32},
              {"num_inducing": 20}),
    "bnn": Row(xfer2.BnnRepurposer, {"random_state": 0, "num_epochs": 50, "num_samples_mc_prediction": 32}, {"sigma": 1.0}),
    "laplace": Row(xfer2.LaplaceRepurposer, {"random_state": 0, "num_samples_mc_prediction": 32}, {"c": 0.01}),
    "sklearn": Row(xfer2.SklearnRepurposer, {"estimator": LogisticRegression(max_iter=5000, tol=1e-2), "random_state": 0},
                   {"estimator__C": 0.01}),
    "fine-tune": Row(xfer2.NeuralNetworkFineTuneRepurposer, TWICE, {"weight_decay": 1e-3}, {"transfer_layer_name": "fc1"}),
    "random-freeze": Row(xfer2.NeuralNetworkRandomFreezeRepurposer, {**TRAINED, "random_layers": ["conv10", "fc1"]},
                         {"weight_decay": 1e-3}, {"fixed_layers": ["conv1"]}),
    "two-tower": Row(xfer2.TwoTowerRepurposer, {**TRAINED, "num_epochs": 4}, {"weight_decay": 1e-3},
                     {"transfer_layer_name": "fc1"}),
    "stitch": Row(xfer2.StitchRepurposer, {**TRAINED, "width": 1.0, "patience": None}, {"weight_decay": 1e-3},
                  {"transfer_layer_name": "fc1"}),
    "lwf": Row(xfer2.LwfRepurposer, TRAINED, {"distillation_weight": 0.5}, {"transfer_layer_name": "fc1"}),
    "ptu": Row(xfer2.PtuRepurposer, TRAINED, {"weight_decay": 1e-3}, {"transfer_layer_name": "fc1"}),
}
