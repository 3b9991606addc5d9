"""Estimators that repurposers keep: as bytes without pickle, and those that say how far examples are from training."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from xfer2._mxnet import hidden
from xfer2.exceptions import PersistenceError
from xfer2.uncertainty.ood import MahalanobisDistance, NearestNeighbourDistance

DISTANCES_FILE = "distances.skops"
_TRUSTED_PREFIXES = ("xfer2.heads.", "xfer2.uncertainty.")
_SCIKIT_LEARNS_OWN = {  # parts of fitted classifiers that skops does not list; no prefix: not all that sklearn has is safe
    f"sklearn.{name}" for name in (
        "calibration._CalibratedClassifier", "calibration._SigmoidCalibration", "calibration._TemperatureScaling",
        "ensemble._hist_gradient_boosting.predictor.TreePredictor", "gaussian_process.kernels.ConstantKernel",
        "gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace", "gaussian_process.kernels.Product",
        "gaussian_process.kernels.RBF", "metrics._dist_metrics.EuclideanDistance64", "multiclass._ConstantPredictor",
        "neighbors._ball_tree.BallTree", "neighbors._kd_tree.KDTree", "neural_network._stochastic_optimizers.AdamOptimizer",
        "neural_network._stochastic_optimizers.SGDOptimizer", "tree._tree.Tree", "utils._bunch.Bunch")}


def fit_distances(features: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """What tells examples unlike those of training, by name, fitted to features (n, d) and class codes (n,)."""
    return {"mahalanobis": MahalanobisDistance().fit(features, codes),
            "nearest_neighbour": NearestNeighbourDistance().fit(features, codes)}


def distances_of(fitted: Mapping[str, Any], features: np.ndarray) -> dict[str, np.ndarray]:
    """How far features (n, d) are from those of training, (n,) for every name."""
    return {name: distance.score(features) for name, distance in fitted.items()}


def _skops() -> ModuleType:
    """skops.io, which imports all of scikit-learn for a list of its classes, and so torch, which takes longer than that."""
    if "skops.io" in sys.modules or "torch" in sys.modules:
        return importlib.import_module("skops.io")
    with hidden("torch"):
        return importlib.import_module("skops.io")


def to_bytes(value: Any) -> bytes:
    """Scikit-learn estimators, alone or in a dict, without pickle."""
    return _skops().dumps(value)


def from_bytes(content: bytes, trusted: tuple[str, ...]) -> Any:
    """Undo `to_bytes`; `trusted` are types that the caller allows beyond scikit-learn's and xfer2's own."""
    skops = _skops()
    unknown = [name for name in skops.get_untrusted_types(data=content)
               if not name.startswith(_TRUSTED_PREFIXES) and name not in _SCIKIT_LEARNS_OWN.union(trusted)]
    if unknown:
        raise PersistenceError(f"A saved estimator holds types that xfer2 does not know: {', '.join(unknown)}. If you trust "
                               f"where it comes from, load it with xfer2.load(path, trusted={tuple(unknown)!r}).")
    return skops.loads(content, trusted=skops.get_untrusted_types(data=content))
