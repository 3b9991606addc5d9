"""The methods. Loading and the command line derive from these rows; a test holds the exports to them."""

from __future__ import annotations

import importlib
import inspect
import re
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

    @property
    def needs_objects(self) -> tuple[str, ...]:
        """Parameters without a default that no text can say: what has them is for Python only."""
        told = ("source_model", "feature_layer_names", "transfer_layer_name")
        return tuple(name for name, default in parameters_of(self.load_class()).items()
                     if default is REQUIRED and name not in told)


REQUIRED = inspect.Parameter.empty  # in the place of a default

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


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Parameters of a class's constructor and of its bases', by name."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            for parameter in list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]:
                if parameter.kind is not parameter.VAR_KEYWORD:
                    found.setdefault(parameter.name, parameter)
    return found


def constructor_signature(cls: type) -> inspect.Signature:
    """Of a class's constructor, with all that it hands on to its bases by name."""
    signature = inspect.signature(vars(cls)["__init__"])
    own = signature.parameters
    handed_on = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
                 for name, parameter in constructor_parameters(cls).items() if name not in own]
    kept = [parameter for parameter in own.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*kept, *handed_on]) if len(kept) < len(own) else signature


def parameters_of(cls: Any) -> dict[str, Any]:
    """The parameters of a repurposer, those handed on to its bases too, with defaults or `REQUIRED`."""
    names = set(cls._get_param_names())
    return {name: REQUIRED if parameter.default is parameter.empty else parameter.default
            for name, parameter in constructor_parameters(cls).items() if name in names}


def described_parameters(cls: Any) -> dict[str, str]:
    """What the docstrings of a repurposer and its bases say of each parameter, on one line; the fullest is taken.

    Where all that is said is "See `some.module.Class`.", that class is asked.
    """
    found: dict[str, str] = {}
    for base in cls.__mro__:
        for name, text in _said(base).items():
            if name not in found or found[name].startswith("See "):
                found[name] = text
    for name, text in found.items():
        elsewhere = re.fullmatch(r"See `([\w.]+)\.(\w+)`\.", text)
        if elsewhere:
            found[name] = _said(getattr(importlib.import_module(elsewhere[1]), elsewhere[2])).get(name, text)
    return {name: text for name, text in found.items() if name in parameters_of(cls)}


def _said(cls: Any) -> dict[str, str]:
    """What a class's own docstring says of its parameters, on one line each."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n---|\Z)", inspect.cleandoc(vars(cls).get("__doc__") or ""),
                        re.DOTALL | re.MULTILINE)
    found = {}
    for entry in re.finditer(r"^(\S.*)\n((?:    .*\n?|\n)*)", section[1] if section else "", re.MULTILINE):
        names, _, kind = entry[1].partition(" : ")
        text = " ".join([kind + ("." if kind and entry[2].strip() else ""), *entry[2].split()]).strip()
        found.update(dict.fromkeys(names.split(", "), text) if text else {})
    return found


def get_method(name: str) -> Method:
    """The method of that name; an error lists the nearest."""
    if name not in METHODS:
        raise ParameterError(f"There is no method {name!r}. Methods: {', '.join(nearest(name, METHODS, len(METHODS)))}.")
    return METHODS[name]
