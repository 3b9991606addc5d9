"""A graph of ours growing node by node from an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xfer2.exceptions import ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph.compose import fresh_name
from xfer2.model_handler.graph.model import Edge, Node

BATCH = -1_073_741_831  # a size in a shape: as many as there are examples; no file says such a number, and 32 bits hold it
UNKNOWN = BATCH - 1  # one that the file leaves free, or that follows from such a one or from the number of examples

FREE = "the number of examples, or a size that the file leaves free"

Shape = tuple[int, ...]

_COUNTS = (29, 31)  # examples, or times as many as the file is made for: strides make no other axis as long as them


@dataclass(frozen=True)
class OnnxNode:
    """A node of an ONNX graph: operator, name, names of what it reads and gives, attributes as Python values."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]

    def reads(self, position: int) -> bool:
        """Whether an optional input is there."""
        return len(self.inputs) > position and bool(self.inputs[position])


def refusal(node: OnnxNode, why: str) -> ModelError:
    """The error that a node cannot be translated."""
    return ModelError(f"The ONNX node {node.name!r} ({node.op}) has no form in MXNet: {why}.")


def is_free(array: np.ndarray) -> bool:
    """Whether there is a size among such whole numbers that the file does not say."""
    return array.dtype.kind == "i" and bool(np.isin(array, (BATCH, UNKNOWN)).any())


class Translation:
    """What is translated so far, and what the translation of an operator may ask of it.

    Parameters
    ----------
    opset : int
        Version of ONNX's operators.
    inputs : mapping of str to tuple of int
        Inputs of the network with their shapes, without the batch axis; sizes that are not known are 0.
    constants : mapping of str to numpy.ndarray
        Values that are known.
    batch : int, optional
        The number of examples that the file is made for; None where it takes any.
    free : tuple of two int
        Sizes to try for those that are not known: what differs between the two is not known either.
    uses : mapping of str to int
        How often the file reads each value, as a node's input or as an output.

    Attributes
    ----------
    nodes : list of Node
    params : dict of str to numpy.ndarray
        Parameters of these nodes, by name.
    edges : dict of str to Edge
        Where ONNX's values are in the graph.
    left_out : dict of str to OnnxNode
        Values that a node gives in ONNX and that its layer does not give (the positions of maxima, say).
    """

    def __init__(self, opset: int, inputs: Mapping[str, Shape], constants: Mapping[str, np.ndarray], batch: int | None,
                 free: tuple[int, int], uses: Mapping[str, int]) -> None:
        self.opset = opset
        self.batch = batch
        self.inputs = inputs
        self.constants = dict(constants)
        self.nodes = [Node(name) for name in inputs]
        self.params: dict[str, np.ndarray] = {}
        self.edges = {name: Edge(name) for name in inputs}
        self.left_out: dict[str, OnnxNode] = {}
        self._taken = set(inputs)
        self._counts = (_COUNTS[0] * (batch or 1), _COUNTS[1] * (batch or 1))
        self._free = free
        self._uses = uses
        self._own: set[str] = set()
        self._made: dict[str, Node] = {}
        self._inferred: dict[tuple[str, int], tuple[Shape | None, Shape | None]] = {}
        self._seen = 0
        self._contradiction = ""

    def is_constant(self, value: str) -> bool:
        """Whether the value does not depend on the network's input."""
        return value in self.constants

    def constant(self, node: OnnxNode, position: int, free: bool = False) -> np.ndarray:
        """An input that does not depend on the network's; an error where it does.

        Sizes that the file does not say may be in it only where `free`.
        """
        value = node.inputs[position]
        if not self.is_constant(value):
            raise refusal(node, f"its input {value!r} depends on the network's input; it must be a constant of the file")
        if not free and is_free(self.constants[value]):
            raise refusal(node, f"its input {value!r} holds {FREE}")
        return self.constants[value]

    def check_inputs(self, node: OnnxNode) -> None:
        """Raise unless all that a node reads is there."""
        for value in node.inputs:
            if value not in self.constants and value not in self.edges:
                self._check_given(value)
                raise refusal(node, f"it reads {value!r}, which no node before it gives")

    def edge(self, value: str) -> Edge:
        """The value in the graph; one that is constant becomes a parameter."""
        if value not in self.edges:
            self._check_given(value)
            if value not in self.constants:
                raise ModelError(f"Its output {value!r} is given by no node.")
            self.edges[value] = self.parameter(value, self.constants[value])
        return self.edges[value]

    def _check_given(self, value: str) -> None:
        if value in self.left_out:
            raise refusal(self.left_out[value], f"its layer does not give {value!r}. Export the network without that output")

    def parameter(self, value: str, array: np.ndarray, own: bool = False) -> Edge:
        """A parameter of such values, named as the ONNX value that it is made of; where it is `own`, nobody else's."""
        if is_free(array):
            raise ModelError(f"The ONNX value {value!r} holds {FREE}; it can be no parameter.")
        if array.dtype.kind not in "biuf":
            raise ModelError(f"The ONNX value {value!r} holds {array.dtype.name}; a parameter must hold numbers.")
        if not own and value in self.params and value not in self._own and np.array_equal(self.params[value], array):
            return Edge(value)
        name = self._fresh(value)
        self.nodes.append(Node(name))
        self.params[name] = np.ascontiguousarray(array)
        if own:
            self._own.add(name)
        return Edge(name)

    def made_by(self, value: str) -> Node | None:
        """The layer that a node of the file has just become, where only one other node reads the value that it gives."""
        return self._made.get(value) if self._uses.get(value, 0) == 1 else None

    def give_bias(self, layer: Edge, value: str, array: np.ndarray) -> Edge:
        """Let a dense layer that has no bias, and that nobody reads yet, add these values."""
        index = next(number for number in reversed(range(len(self.nodes))) if self.nodes[number].name == layer.node)
        old = self.nodes.pop(index)  # to be put behind its bias
        self._seen -= index < self._seen
        bias = self.parameter(value, array)
        self.nodes.append(replace(old, attrs={**old.attrs, "no_bias": "False"}, inputs=(*old.inputs, bias)))
        return layer

    def shape(self, value: str) -> Shape:
        """Shape of a value, its sizes numbers, `BATCH` or `UNKNOWN`; empty where not even their number is known."""
        if self.is_constant(value):
            return self.constants[value].shape
        edge = self.edge(value)
        self._infer()
        first, second = self._inferred.get(edge[:2], (None, None))
        if first is None or second is None:
            return ()
        return tuple(one if one == two else BATCH if (one, two) == self._counts else UNKNOWN
                     for one, two in zip(first, second, strict=True))

    def _infer(self) -> None:
        """Ask MXNet for the shapes of all layers since the last time, one by one, for two numbers of examples."""
        for node in self.nodes[self._seen:]:
            found: list[list[Shape | None]]
            if node.name in self.inputs:
                found = [[(count, *(size or free for size in self.inputs[node.name]))]
                         for count, free in zip(self._counts, self._free, strict=True)]
            elif node.is_variable:
                found = [[self.params[node.name].shape]] * 2
            else:
                read = [self._inferred.get(edge[:2], (None, None)) for edge in node.inputs]
                found = [symbols.output_shapes(node, [both[case] for both in read]) for case in (0, 1)]
                if not all(found) and read and all(map(all, read)) and not self._contradiction:
                    shapes = ", ".join(str(both[0]) for both in read)
                    self._contradiction = f"; the layer {node.name!r} cannot compute with shapes such as {shapes}"
            for number, both in enumerate(zip(*found, strict=False)):  # none where MXNet finds a contradiction
                self._inferred[node.name, number] = both
        self._seen = len(self.nodes)

    def rank(self, node: OnnxNode, position: int = 0) -> int:
        """Number of axes of an input; an error where it is not known."""
        value = node.inputs[position]
        shape = self.shape(value)
        if not shape and not self.is_constant(value):
            raise refusal(node, f"the number of axes of {value!r} is not known{self._contradiction}")
        return len(shape)

    def put(self, node: OnnxNode, op: str, attrs: Mapping[str, Any], *inputs: Edge, part: str = "") -> Edge:
        """Add a layer, named as the node, or as a part of it."""
        name = self._fresh(node.name + part)
        self.nodes.append(Node(name, op, {key: str(value) for key, value in attrs.items()}, inputs))
        if not part:
            self._made[node.outputs[0]] = self.nodes[-1]
        return Edge(name)

    def _fresh(self, name: str) -> str:
        found = fresh_name(name, self._taken)
        self._taken.add(found)
        return found


Result = Edge | list[Edge]
Operator = Callable[[Translation, OnnxNode], Result]
