"""Network: a graph with its parameters, what is frozen, and how its inputs are prepared. The value that travels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from xfer2._mxnet import NDArray
from xfer2._validation import check_choice, parameter_error
from xfer2.exceptions import ParameterError
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Graph

Params = Mapping[str, NDArray]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    Transparency is left out. Photographs in files are turned first as the camera noted (EXIF orientation), which MXNet's own
    reading of images does not do.

    Attributes
    ----------
    input_shape : tuple of int
        (channels, height, width).
    color : {"RGB", "BGR", "GRAY"}
        Order of the channels.
    resize_short : int or None
        The image is resized until its short side is this many pixels; None resizes it to height x width at once,
        whatever its proportions.
    crop : {"center", "none"}
        What is cut to height x width after the resize; "none" needs ``resize_short=None``.
    scale : float
        Multiplies pixel values (0 to 255) first.
    mean, std : tuple of float
        One per channel: subtracted after scaling, and divided by.
    input_name : str
        The network's input.

    Examples
    --------
    >>> Preprocessing((1, 28, 28), color="GRAY", scale=1 / 255).input_shape
    (1, 28, 28)
    """

    input_shape: tuple[int, int, int]
    color: str = "RGB"
    resize_short: int | None = None
    crop: str = "none"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    input_name: str = "data"

    def __post_init__(self) -> None:
        owner = "Preprocessing"
        shape = _numbers(self.input_shape, Integral)
        if len(shape) != 3 or min(shape) < 1:
            raise parameter_error(owner, "input_shape", "three positive integers (channels, height, width)",
                                  self.input_shape)
        check_choice(owner, "color", self.color, ("RGB", "BGR", "GRAY"))
        check_choice(owner, "crop", self.crop, ("center", "none"))
        channels = 1 if self.color == "GRAY" else 3
        if shape[0] != channels:
            raise parameter_error(owner, "input_shape", f"of {channels} channels where color is {self.color!r}", shape)
        if self.resize_short is None and self.crop != "none":
            raise parameter_error(owner, "resize_short", "the short side in pixels where crop is 'center'", None)
        if self.resize_short is not None and (
                self.crop == "none" or min(_numbers((self.resize_short,), Integral), default=0) < max(shape[1:])):
            raise parameter_error(owner, "resize_short", "None, or at least the height and width with crop='center'",
                                  self.resize_short)
        if not _numbers((self.scale,), Real):
            raise parameter_error(owner, "scale", "a finite number", self.scale)
        if not isinstance(self.input_name, str):
            raise parameter_error(owner, "input_name", "the name of an input", self.input_name)
        for name in ("mean", "std"):
            values = _numbers(getattr(self, name), Real)
            if len(values) not in (1, channels):
                raise parameter_error(owner, name, f"{'' if channels == 1 else '1 or '}{channels} finite numbers",
                                      getattr(self, name))
            object.__setattr__(self, name, tuple(float(v) for v in values))
        if min(self.std) <= 0:
            raise parameter_error(owner, "std", "above zero", self.std)
        object.__setattr__(self, "input_shape", tuple(int(v) for v in shape))
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "resize_short", None if self.resize_short is None else int(self.resize_short))

    def to_json(self) -> str:
        """The record as JSON text, as kept beside a checkpoint in ``PREFIX-preprocessing.json``."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_mapping(cls, record: Mapping[str, Any], origin: str = "preprocessing record") -> Preprocessing:
        """Read a record; unknown or missing keys are errors that name them."""
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(record) - names)
        if unknown or "input_shape" not in record:
            wrong = f"unknown key {unknown[0]!r}" if unknown else "no 'input_shape'"
            raise ParameterError(f"{origin}: {wrong}. The keys are: {', '.join(sorted(names))}.")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        return cls(**values)


def _numbers(values: Any, kind: Any) -> tuple[Any, ...]:
    """Several finite numbers of a kind, those of NumPy among them; none where one is none."""
    listed = tuple(values) if isinstance(values, (list, tuple, np.ndarray)) else ()
    good = all(isinstance(v, kind) and not isinstance(v, bool) and math.isfinite(v) for v in listed)
    return listed if good else ()


@dataclass(frozen=True, repr=False, eq=False)
class Network:
    """A graph with its parameters. Immutable: an edit gives a new Network that shares the arrays it keeps.

    Attributes
    ----------
    graph : Graph
    arg_params, aux_params : mapping of str to NDArray
        Trained parameters, and statistics that training updates by itself (BatchNorm's). Only for variables that the
        graph has; variables of parameter role without an entry have no values yet.
    input_shapes : mapping of str to tuple of int
        Shapes of the data inputs without the batch axis, where known; the preprocessing record knows its own.
    frozen : frozenset of str
        Layers whose parameters and statistics training must not change.
    preprocessing : Preprocessing or None
    """

    graph: Graph
    arg_params: Params = field(default_factory=dict)
    aux_params: Params = field(default_factory=dict)
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        variables = set(self.graph.variable_names)
        object.__setattr__(self, "arg_params", {k: v for k, v in self.arg_params.items() if k in variables})
        object.__setattr__(self, "aux_params", {k: v for k, v in self.aux_params.items() if k in variables})
        object.__setattr__(self, "frozen", frozenset(self.frozen) & set(self.graph.layer_names))
        inputs = set(self.inputs)
        shapes = {k: tuple(v) for k, v in self.input_shapes.items() if k in inputs}
        record = self.preprocessing
        if record is not None and record.input_name in inputs:
            shapes.setdefault(record.input_name, record.input_shape)
        else:
            object.__setattr__(self, "preprocessing", None)
        object.__setattr__(self, "input_shapes", shapes)

    def __repr__(self) -> str:
        return (f"Network({len(self.graph.layer_names)} layers, {len(self.params)} parameters, "
                f"inputs {', '.join(self.inputs)})")

    @cached_property
    def params(self) -> Params:
        """Trained parameters and statistics in one mapping."""
        return {**self.arg_params, **self.aux_params}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the data inputs."""
        return query.variables_with_role(self.graph, "input", self.params)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the label inputs (of SoftmaxOutput and its like)."""
        return query.variables_with_role(self.graph, "label", self.params)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all parameters and statistics, with values or without."""
        return query.variables_with_role(self.graph, "parameter", self.params)

    @property
    def missing(self) -> tuple[str, ...]:
        """Parameters that have no values yet."""
        return tuple(name for name in self.parameter_names if name not in self.params)

    @cached_property
    def layer_parameters(self) -> Mapping[str, tuple[str, ...]]:
        """Parameters and statistics of each layer, through the graph's edges."""
        return query.parameters_by_layer(self.graph, self.params)

    @property
    def frozen_parameters(self) -> frozenset[str]:
        """Parameters and statistics of the frozen layers."""
        return frozenset(name for layer in self.frozen for name in self.layer_parameters[layer])

    def with_graph(self, graph: Graph, **changes: Any) -> Network:
        """The network with another graph; parameters that no longer occur are dropped."""
        return replace(self, graph=graph, **changes)
