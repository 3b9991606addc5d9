"""The methods. Loading, exports and the command line derive from these rows."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from xfer2._validation import nearest
from xfer2.exceptions import ParameterError


@dataclass(frozen=True)
class Method:
    """One repurposer: its short name, where its class is, what it is, and what it can do.

    Tags: ``meta-model`` (a classifier on extracted features), ``network`` (trains a target network), ``posterior``
    (answers with aleatoric and epistemic parts).
    """

    name: str
    home: str
    class_name: str
    summary: str
    tags: frozenset[str]

    def load_class(self) -> Any:
        """Import the class."""
        return getattr(importlib.import_module(self.home), self.class_name)


METHODS: dict[str, Method] = {method.name: method for method in (
    Method("lr", "xfer2.repurposers.lr", "LrRepurposer",
           "logistic regression on standardised features, C by cross-validation", frozenset({"meta-model"})),
    Method("svm", "xfer2.repurposers.svm", "SvmRepurposer",
           "one-vs-rest support vector machines on features, calibrated", frozenset({"meta-model"})),
    Method("gp", "xfer2.repurposers.gp", "GpRepurposer",
           "Gaussian process on features, one kernel a layer", frozenset({"meta-model", "posterior"})),
    Method("bnn", "xfer2.repurposers.bnn", "BnnRepurposer",
           "Bayesian neural network on features, mean-field", frozenset({"meta-model", "posterior"})),
    Method("laplace", "xfer2.repurposers.laplace", "LaplaceRepurposer",
           "logistic regression on features with a Gaussian posterior", frozenset({"meta-model", "posterior"})),
    Method("sklearn", "xfer2.repurposers.sklearn_head", "SklearnRepurposer",
           "any scikit-learn classifier on features, calibrated", frozenset({"meta-model"})),
    Method("fine-tune", "xfer2.repurposers.fine_tune", "NeuralNetworkFineTuneRepurposer",
           "the source up to a layer, a dense layer on it, trained", frozenset({"network"})),
    Method("random-freeze", "xfer2.repurposers.random_freeze", "NeuralNetworkRandomFreezeRepurposer",
           "the source with some layers frozen and others drawn anew, trained", frozenset({"network"})),
    Method("two-tower", "xfer2.repurposers.two_tower", "TwoTowerRepurposer",
           "the frozen source beside a module that is trained", frozenset({"network"})),
    Method("stitch", "xfer2.repurposers.stitch", "StitchRepurposer",
           "the frozen source and a narrow module that reads all its layers", frozenset({"network"})),
    Method("ptu", "xfer2.repurposers.ptu", "PtuRepurposer",
           "a target whose layers take from the frozen source's through gated units", frozenset({"network"})),
    Method("lwf", "xfer2.repurposers.lwf", "LwfRepurposer",
           "the source with a head for every new task, old heads held to what they said", frozenset({"network"})),
)}


def get_method(name: str) -> Method:
    """The method of that name; an error lists the nearest."""
    if name not in METHODS:
        raise ParameterError(f"There is no method {name!r}. Methods: {', '.join(nearest(name, METHODS, len(METHODS)))}.")
    return METHODS[name]
