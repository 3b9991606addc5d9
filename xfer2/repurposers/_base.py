"""What every repurposer is: a scikit-learn classifier over a source network, with Xfer's names for the same things."""

from __future__ import annotations

import inspect
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError

from xfer2._mxnet import mx
from xfer2._version import __version__
from xfer2.data.batches import open_batches, shaped_by
from xfer2.exceptions import DataError, PersistenceError
from xfer2.features.engines.automatic import EngineChoice, engine_on
from xfer2.features.engines.mxnet import devices
from xfer2.model_handler import params, sources
from xfer2.model_handler.network import Network
from xfer2.persistence import from_plain, read_directory, to_plain, write_directory
from xfer2.repurposers._examples import Examined, described
from xfer2.repurposers._registry import REQUIRED, constructor_parameters, constructor_signature, parameters_of
from xfer2.uncertainty.evaluation import Evaluation
from xfer2.uncertainty.predictions import Prediction

_CONTEXTS = {"cpu": mx.cpu, "gpu": mx.gpu}
_HELD_OUT_FILE = "held-out.npz"


class Repurposer(ClassifierMixin, BaseEstimator):
    """Base of all repurposers.

    A subclass stores its constructor's arguments unchanged, implements `fit` and `_examine`, and says what of it is saved by
    `_to_files` and `_from_files`.

    Attributes
    ----------
    method : str
        Short name in the registry; empty for a class of a user's own, which is loaded by ``MyRepurposer.load(path)``.
    classes_ : numpy.ndarray (k,)
        Labels seen by `fit`, sorted.
    trained_on_ : dict
        What `fit` saw: source, data, the number of examples and of those of every class, images that were skipped.
    held_out_ : Evaluation or None
        Predictions of examples that `fit` did not see, where they were put here: ``repurposer.held_out_ =
        repurposer.evaluate(X, y)``. They are saved with the repurposer, and ``xfer2 predict`` makes its prediction sets and
        its limit for abstaining of them.
    """

    method: ClassVar[str] = ""
    _shared_by_clones: ClassVar[tuple[str, ...]] = ("source_model",)
    context_function: Any
    num_devices: int
    batch_size: int
    errors: str
    classes_: np.ndarray
    trained_on_: dict[str, Any]
    held_out_: Evaluation | None

    def __init_subclass__(cls, **options: Any) -> None:
        """Let `help`, and scikit-learn's representation, know the parameters that a constructor hands on to its bases."""
        super().__init_subclass__(**options)
        own = vars(cls).get("__init__")
        if inspect.isfunction(own) and cls._get_param_names() == sorted(constructor_parameters(cls)):
            own.__signature__ = constructor_signature(cls)  # type: ignore[attr-defined]

    @abstractmethod
    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn the task of X; labels from `y`, or from the data where they carry their own."""

    def predict_uncertainty(self, X: Any) -> Prediction:
        """Labels, probabilities and how uncertain they are, and how far each example's features are from those of training.

        Distances are by Mahalanobis and by the nearest neighbours; see `xfer2.uncertainty.ood`.
        """
        return self._examine(X).prediction

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each example (n,), of the labels' own type."""
        return self._predict_labels(X)[0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities (n, k), columns as in ``classes_``."""
        return self.predict_uncertainty(X).probabilities

    def repurpose(self, train_iterator: Any, labels: Any = None) -> Any:
        """`fit`, by Xfer's name."""
        return self.fit(train_iterator, labels)

    def predict_label(self, test_iterator: Any) -> np.ndarray:
        """`predict`, by Xfer's name."""
        return self.predict(test_iterator)

    def predict_probability(self, test_iterator: Any) -> np.ndarray:
        """`predict_proba`, by Xfer's name."""
        return self.predict_proba(test_iterator)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the repurposer, source network included, to a directory; `xfer2.load` gives the same predictions.

        Raises
        ------
        PersistenceError
            The path exists, or a parameter cannot be saved without pickle.
        """
        self._check_is_fitted()
        manifest = {
            "method": self.method,
            "class": type(self).__name__,
            "xfer2": __version__,
            "versions": {"mxnet": mx.__version__, "numpy": np.__version__},
            "parameters": {name: to_plain(name, value) for name, value in self._saved_parameters().items()},
            "classes": to_plain("classes_", self.classes_),
            "trained_on": to_plain("trained_on_", self.trained_on_),
            "learned": to_plain("learned", self._learned()),
        }
        files = self._to_files()
        if self.held_out_ is not None:
            files[_HELD_OUT_FILE] = self.held_out_.to_bytes()
        write_directory(path, manifest, files, overwrite)

    def save_repurposer(self, model_name: str, model_directory: str = "", save_source_model: bool | None = None,
                        overwrite: bool = False) -> None:
        """`save` to ``model_directory/model_name``, by Xfer's name; the source network is always saved."""
        self.save(os.path.join(model_directory, model_name), overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], trusted: tuple[str, ...] = ()) -> Any:
        """Read a repurposer of this class; see `xfer2.load`."""
        manifest, files = read_directory(path)
        return cls._restore(manifest, files, trusted)

    @classmethod
    def _restore(cls, manifest: Mapping[str, Any], files: Mapping[str, bytes], trusted: tuple[str, ...]) -> Any:
        if manifest.get("class") != cls.__name__:
            raise PersistenceError(f"The directory holds a {manifest.get('class')}, not a {cls.__name__}; "
                                   "use xfer2.load, or that class's load.")
        restored = object.__new__(cls)
        try:
            parameters = {name: from_plain(value) for name, value in manifest["parameters"].items()}
            if parameters.get("context_function") in _CONTEXTS:
                parameters["context_function"] = _CONTEXTS[parameters["context_function"]]
            defaults = {name: value for name, value in parameters_of(cls).items() if value is not REQUIRED}
            for name, value in {**defaults, **parameters}.items():  # a version before may have had fewer
                setattr(restored, name, value)
            restored._from_files(files, from_plain(manifest["learned"]), trusted)
            restored.trained_on_ = from_plain(manifest["trained_on"])
            restored.held_out_ = Evaluation.from_bytes(files[_HELD_OUT_FILE]) if _HELD_OUT_FILE in files else None
            restored.classes_ = from_plain(manifest["classes"])
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise PersistenceError(f"The saved {cls.__name__} cannot be read: it lacks something, or holds it in another "
                                   f"form ({type(error).__name__}: {error}).") from error
        return restored

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy on X; labels from `y`, or from the data where they carry their own."""
        predicted, truth = self._predict_labels(X, y)
        if truth is None:
            raise DataError(f"{type(self).__name__}.score needs labels: pass y, or data that carry their own.")
        if (truth.dtype.kind in "UO") != (predicted.dtype.kind in "UO"):
            raise DataError(f"{type(self).__name__}.score: the labels are of type {truth.dtype}, as {truth.tolist()[0]!r}; "
                            f"the classes of type {predicted.dtype}, as {predicted.tolist()[0]!r}.")
        return float(np.average(predicted == truth, weights=sample_weight))

    def evaluate(self, X: Any, y: Any = None) -> Evaluation:
        """Predictions of X with the true labels, whose `figures` say how good they are, with intervals.

        Raises
        ------
        DataError
            There are no labels, or one is no class.
        """
        return self._evaluation(self._examine(X, y))

    def report(self, path: str | os.PathLike[str], X: Any, y: Any = None, title: str | None = None,
               overwrite: bool = False) -> None:
        """Write one self-contained HTML file on what was done, and on the predictions of X.

        Parameters
        ----------
        path : str or path
        X, y : data and labels
            Examples that `fit` did not see; without labels the report says what can be said without.
        title : str, optional
        overwrite : bool
        """
        from xfer2.repurposers import _reporting

        examined = self._examine(X, y)
        labels = None if examined.labels is None else self._evaluation(examined).labels
        _reporting.write(self, path, X, examined._replace(labels=labels), title, overwrite)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor's arguments; with `deep`, those of nested estimators too, but nothing of the source network."""
        values = super().get_params(deep=False)
        if deep:
            for name, value in list(values.items()):
                if name != "source_model" and isinstance(value, BaseEstimator):
                    values.update({f"{name}__{key}": nested for key, nested in value.get_params().items()})
        return values

    def __sklearn_clone__(self) -> Any:
        """A copy with the same parameters and nothing learned; the source network, and data, are shared, not copied."""
        values = {name: value if name in self._shared_by_clones else clone(value, safe=False)
                  for name, value in self.get_params(deep=False).items()}
        return type(self)(**values)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def _check_is_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"This {type(self).__name__} has learned nothing yet; call fit or repurpose first.")

    def _read_source(self) -> Network:
        """The source, in single precision."""
        return params.cast(sources.read(self.source_model, type(self).__name__, "source_model"), "float32")

    def _shaped_by(self, network: Network, X: Any) -> Network:
        """A network with its inputs' shapes as the data have them."""
        return shaped_by(network, open_batches(X, network, None, self.batch_size, self.errors, type(self).__name__))

    def _with_shapes(self, network: Network, X: Any) -> Network:
        """A network with its inputs' shapes, where it does not know them those of the data."""
        return network if set(network.inputs) <= set(network.input_shapes) else self._shaped_by(network, X)

    def _contexts(self) -> list[Any]:
        return devices(type(self).__name__, self.context_function, self.num_devices)

    def _engine(self) -> EngineChoice:
        """The engine on the devices that were asked for."""
        return engine_on(self._contexts())

    def _check_labels(self, labels: np.ndarray | None) -> np.ndarray:
        owner = type(self).__name__
        if labels is None:
            raise DataError(f"{owner} needs labels: pass them as y, or data that carry their own (class folders, a CSV "
                            "with a second column, an iterator with labels).")
        if labels.dtype.kind == "O":
            kinds = sorted({type(label).__name__ for label in labels.tolist()})
            raise DataError(f"{owner}: labels must be all numbers or all texts, none of them missing; these are of the "
                            f"types {', '.join(kinds)}.")
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise DataError(f"{owner}: some labels are NaN or infinite.")
        if labels.dtype.kind not in "biufU" or (labels.dtype.kind == "f" and (labels != np.round(labels)).any()):
            raise DataError(f"{owner}: labels must be texts or whole numbers; got {labels.dtype}, {labels[0]!r} among them.")
        if len(np.unique(labels)) < 2:
            raise DataError(f"{owner} needs at least two classes; all {len(labels)} labels are {labels[0]!r}.")
        return labels

    def _saved_parameters(self) -> dict[str, Any]:
        """Parameters as they go into the manifest: no source, devices by name, functions and generators as defaults.

        Those of the bases too, which a class of a user's own may set without naming them.
        """
        values = {name: getattr(self, name) for name in sorted(constructor_parameters(type(self)))
                  if name != "source_model" and hasattr(self, name)}
        if isinstance(values.get("random_state"), (np.random.RandomState, np.random.Generator)):
            values["random_state"] = None
        if "context_function" in values:
            names = [name for name, function in _CONTEXTS.items() if function is values["context_function"]]
            values["context_function"] = names[0] if names else "cpu"
        return values

    def _evaluation(self, examined: Examined) -> Evaluation:
        if examined.labels is None:
            raise DataError(f"{type(self).__name__}.evaluate needs labels: pass y, or data that carry their own.")
        return Evaluation(examined.prediction, examined.labels)

    def _record(self, X: Any, y: Any, labels: np.ndarray, skipped: Sequence[str]) -> dict[str, Any]:
        """`trained_on_`."""
        return {"source": described(self.source_model), "data": described(X), "examples": len(labels),
                "given_labels": y is not None, "skipped": list(skipped),
                "named": [isinstance(one, (str, os.PathLike)) for one in (self.source_model, X)],
                "class_counts": np.unique(labels, return_counts=True)[1].tolist()}

    def _asked(self) -> dict[str, Any]:
        """Parameters with which a fit like this one is asked for, of the source as it was."""
        return self.get_params(deep=False)

    def _told(self) -> dict[str, str]:
        """What came of the fit, by name, for the report."""
        return {}

    def _drawn(self) -> dict[str, Any]:
        """Tables that the report draws, by `write_report`'s names."""
        return {}

    @abstractmethod
    def _examine(self, X: Any, y: Any = None) -> Examined:
        """Predict X, and give its labels, `y` or its own, and features too."""

    @abstractmethod
    def _predict_labels(self, X: Any, y: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The predicted labels (n,), and the true ones, `y` or those that X carries."""

    @abstractmethod
    def _to_files(self) -> dict[str, bytes]:
        """All that `_from_files` needs, by file name."""

    @abstractmethod
    def _from_files(self, files: Mapping[str, bytes], learned: dict[str, Any], trusted: tuple[str, ...]) -> None:
        """Take learned attributes from files; `trusted` are types that the caller allows beyond xfer2's own."""

    def _learned(self) -> dict[str, Any]:
        """Small learned values for the manifest."""
        return {}
