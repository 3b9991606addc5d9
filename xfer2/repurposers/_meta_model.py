"""Repurposers that train a classifier on features extracted from the source network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import as_names, check_choice
from xfer2.data.batches import open_batches
from xfer2.exceptions import DataError
from xfer2.features.extractor import POOLS, extract, pruned
from xfer2.features.store import Features
from xfer2.heads.blocks import helpful_blocks
from xfer2.model_handler import archive
from xfer2.model_handler.answers import with_layers
from xfer2.model_handler.graph.stages import STAGES
from xfer2.model_handler.network import Network
from xfer2.repurposers import _estimators
from xfer2.repurposers._base import Repurposer
from xfer2.repurposers._examples import Examined
from xfer2.uncertainty.predictions import Prediction

_HEAD_FILE = "head.skops"


class MetaModelRepurposer(Repurposer):
    """Base of repurposers with a head on features.

    A subclass of one's own implements `_train_model_from_features` and `_predict_probability_from_features`; where the
    head is a scikit-learn estimator with ``predict_proba``, the first is enough.

    Parameters
    ----------
    source_model : model
        Whatever `ModelHandler` reads.
    feature_layer_names : str or list of str
        Layers to take features from; those of several layers are put side by side. By default, ``"stages"``, what the
        source's last dense layer or convolution reads, and what is known below it, for what other classes need is often
        below the layer made for the source's own (Evci et al. 2022, Head2Toe, arXiv:2201.03529): the means over 3 by 3
        fields of the last maps of each size, and of early, middle and late states of unrolled recurrent layers. Of these
        means those are kept, from the uppermost down, with which a cross-validated logistic regression loses least.
    context_function : callable
        ``mx.cpu`` or ``mx.gpu``.
    num_devices : int
    pool : {"avg", "max"}, optional
        Reduce maps (n, c, h, w) to (n, c); by default they are flattened.
    batch_size : int
        Examples a batch in extraction.
    errors : {"raise", "skip"}
        What to do with an image that cannot be decoded.

    Attributes
    ----------
    head_ : classifier
        Also under Xfer's name, ``target_model``.
    network_ : Network
        The part of the source that the features need.
    feature_indices_per_layer_ : dict of str to numpy.ndarray
        Columns of the features by layer.
    distances_ : dict
        What measures how far features are from those of training.

    Examples
    --------
    >>> import numpy as np, xfer2
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> class KnnRepurposer(xfer2.MetaModelRepurposer):
    ...     def _train_model_from_features(self, features, labels, feature_indices_per_layer):
    ...         return KNeighborsClassifier(1).fit(features, labels)
    >>> images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    >>> repurposer = KnnRepurposer("zoo:mnist-cnn", ["dense0"]).repurpose(images, ["odd", "even"] * 10)
    >>> repurposer.score(images, ["odd", "even"] * 10)
    1.0
    """

    _of_stages = False  # whether what it learned from was chosen among all stages

    def __init__(self, source_model: Any, feature_layer_names: str | Sequence[str] = STAGES,
                 context_function: Callable[[int], Any] = mx.cpu, num_devices: int = 1, pool: str | None = None,
                 batch_size: int = 32, errors: str = "raise") -> None:
        self.source_model = source_model
        self.feature_layer_names = feature_layer_names
        self.context_function = context_function
        self.num_devices = num_devices
        self.pool = pool
        self.batch_size = batch_size
        self.errors = errors

    @property
    def target_model(self) -> Any:
        """The trained head; None before `fit`."""
        return getattr(self, "head_", None)

    def fit(self, X: Any, y: Any = None) -> MetaModelRepurposer:
        """Extract features of X and train the head on them.

        Parameters
        ----------
        X : array, path, DataIter, DataLoader, Dataset
            See `xfer2.extract_features`.
        y : array-like (n,), optional
            Labels of any type; by default the data's own.

        Raises
        ------
        DataError
            No labels, one class only, or features that are not finite.
        LayerNotFoundError, MissingParametersError
            The source does not have the layers, or no values for their parameters.
        """
        owner = type(self).__name__
        names = as_names(owner, "feature_layer_names", self.feature_layer_names)
        check_choice(owner, "pool", self.pool, POOLS)
        self._check_parameters()
        network, found = self._chosen(names, X)
        features = self._extract(network, found, X, y, self.pool)
        labels = self._check_labels(features.labels)
        _check_finite(owner, features)
        self._of_stages = found != names
        if self._of_stages:
            features = _helpful(features, labels)
            network = pruned(network, features.layers)
        columns, matrix = features.columns(), features.matrix()
        head = self._train_model_from_features(matrix, labels, columns)
        classes, codes = np.unique(labels, return_inverse=True)
        self.distances_ = _estimators.fit_distances(matrix, codes)
        self.trained_on_, self.held_out_ = self._record(X, y, labels, features.skipped), None
        self.network_, self.feature_indices_per_layer_, self.head_, self.classes_ = network, columns, head, classes
        self.pool_ = self.pool
        return self

    def _examine(self, X: Any, y: Any = None) -> Examined:
        features = self._features_of(X, y)
        matrix = features.matrix()
        prediction = replace(self._predict_uncertainty_from_features(matrix), ids=features.ids, skipped=features.skipped,
                             distances=_estimators.distances_of(self.distances_, matrix))
        return Examined(prediction, features.labels, matrix)

    def get_features_from_source_model(self, data_iterator: Any) -> Features:
        """Features of any data as `fit` extracts them, by Xfer's name; of all stages before it has chosen among them."""
        names = as_names(type(self).__name__, "feature_layer_names", self.feature_layer_names)
        if names == (STAGES,) and self._of_stages:
            return self._features_of(data_iterator, None)
        network, names = self._chosen(names, data_iterator)
        return self._extract(network, names, data_iterator, None, self.pool)

    def _chosen(self, names: tuple[str, ...], X: Any) -> tuple[Network, tuple[str, ...]]:
        """The part of the source that some features need, and their names, where its stages are asked for of all of them."""
        source = self._read_source()
        network, names = with_layers(type(self).__name__, source, names, lambda: self._shaped_by(source, X))
        return pruned(network, names), names

    def _check_parameters(self) -> None:
        """Raise where a parameter of the method is wrong, before features are extracted. By default all are right."""

    def _train_model_from_features(self, features: np.ndarray, labels: np.ndarray,
                                   feature_indices_per_layer: Mapping[str, np.ndarray]) -> Any:
        """Train the head on features (n, d) and labels (n,), and return it. To be implemented by the method."""
        raise TypeError(f"{type(self).__name__} does not say how its head is trained: implement "
                        "_train_model_from_features(features, labels, feature_indices_per_layer).")

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities (n, k) for features (n, d), columns in the order of the sorted labels."""
        return np.asarray(self.head_.predict_proba(features))

    def _predict_uncertainty_from_features(self, features: np.ndarray) -> Prediction:
        """A Prediction for features (n, d), its ids 0 to n - 1; by default probabilities and what follows from them."""
        return Prediction(self._predict_probability_from_features(features), self.classes_, range(len(features)))

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        """Labels (n,) for features (n, d); by default the most probable."""
        return self.classes_[self._predict_probability_from_features(features).argmax(axis=1)]

    def _predict_labels(self, X: Any, y: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        features = self._features_of(X, y)
        return self._predict_label_from_features(features.matrix()), features.labels

    def _features_of(self, X: Any, y: Any) -> Features:
        """Features of X for the fitted head."""
        self._check_is_fitted()
        features = self._extract(self.network_, tuple(self.feature_indices_per_layer_), X, y, self.pool_)
        widths = _widths(features.columns())
        learned = _widths(self.feature_indices_per_layer_)
        if widths != learned:
            raise DataError(f"{type(self).__name__}: the data give features of other sizes ({widths}) than those it was "
                            f"fitted on ({learned}).")
        _check_finite(type(self).__name__, features)
        return features

    def _extract(self, network: Network, names: tuple[str, ...], X: Any, y: Any, pool: str | None) -> Features:
        owner = type(self).__name__
        engine = self._engine()
        batches = open_batches(X, network, y, self.batch_size, self.errors, owner)
        return extract(network, batches, names, pool, engine=engine)

    def _asked(self) -> dict[str, Any]:
        return {**super()._asked(), **({"feature_layer_names": STAGES} if self._of_stages else {})}

    def _told(self) -> dict[str, str]:
        widths = _widths(self.feature_indices_per_layer_)
        return {"features": ", ".join(f"{width} of {layer}" for layer, width in widths.items())}

    def _to_files(self) -> dict[str, bytes]:
        return {**archive.to_files(self.network_), _HEAD_FILE: _estimators.to_bytes(self.head_),
                _estimators.DISTANCES_FILE: _estimators.to_bytes(self.distances_)}

    def _from_files(self, files: Mapping[str, bytes], learned: dict[str, Any], trusted: tuple[str, ...]) -> None:
        self.network_ = self.source_model = archive.from_files(files)
        self.head_ = _estimators.from_bytes(files[_HEAD_FILE], trusted)
        self.distances_ = _estimators.from_bytes(files[_estimators.DISTANCES_FILE], trusted)
        self.pool_ = learned["pool"]
        start = 0
        self.feature_indices_per_layer_ = {}
        for layer, width in learned["widths"].items():
            self.feature_indices_per_layer_[layer] = np.arange(start, start + width)
            start += width
        self._of_stages = learned.get("stages", False)
        if self._of_stages:  # its source is the network that has been cut to what was chosen
            self.feature_layer_names = list(self.feature_indices_per_layer_)

    def _learned(self) -> dict[str, Any]:
        return {"pool": self.pool_, "stages": self._of_stages,
                "widths": _widths(self.feature_indices_per_layer_)}


class HeadRepurposer(MetaModelRepurposer):
    """Base of repurposers whose head is one of ``xfer2.heads``: a head answers with a `Prediction` itself."""

    def _predict_uncertainty_from_features(self, features: np.ndarray) -> Prediction:
        return self.head_.predict_uncertainty(features)

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self._predict_uncertainty_from_features(features).probabilities


def _widths(columns: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many columns each layer has."""
    return {layer: len(own) for layer, own in columns.items()}


def _helpful(features: Features, labels: np.ndarray) -> Features:
    """Of all stages' features those that a logistic regression is better with."""
    widths = _widths(features.columns())
    kept = [features.layers[block] for block in helpful_blocks(features.matrix(), labels, list(widths.values()))]
    return Features({layer: features[layer] for layer in kept}, features.labels, features.ids, features.skipped)


def _check_finite(owner: str, features: Features) -> None:
    for layer in features.layers:
        flat = features.flat(layer)
        good = np.isfinite(flat).all(axis=1)
        if not good.all():
            row = int(np.argmin(good))
            raise DataError(f"{owner}: the features of layer {layer!r} are NaN or infinite for {int((~good).sum())} of "
                            f"{len(good)} examples, the first {features.ids[row]!r}. Look for NaN in the data, or for a "
                            "layer that overflows.")
