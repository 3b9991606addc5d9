"""A graph of ours growing node by node from an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xfer2.exceptions import ModelError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import codec
from xfer2.model_handler.graph.compose import fresh_name
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.network import Network

BATCH = -(1 << 40)  # a size in a shape: as many as there are examples
UNKNOWN = BATCH - 1

Shape = tuple[int, ...]


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

    Attributes
    ----------
    nodes : list of Node
    params : dict of str to numpy.ndarray
        Parameters of these nodes, by name.
    edges : dict of str to Edge
        Where ONNX's values are in the graph.
    """

    def __init__(self, opset: int, inputs: Mapping[str, Shape], constants: Mapping[str, np.ndarray],
                 batch: int | None) -> None:
        self.opset = opset
        self.batch = batch
        self.inputs = inputs
        self.constants = dict(constants)
        self.nodes = [Node(name) for name in inputs]
        self.params: dict[str, np.ndarray] = {}
        self.edges = {name: Edge(name) for name in inputs}
        self._taken = set(inputs)
        self._inferred: dict[str, Shape] = {}

    def is_constant(self, value: str) -> bool:
        """Whether the value does not depend on the network's input."""
        return value in self.constants

    def constant(self, node: OnnxNode, position: int) -> np.ndarray:
        """An input that does not depend on the network's; an error where it does."""
        if not self.is_constant(node.inputs[position]):
            raise refusal(node, f"its input {node.inputs[position]!r} depends on the network's input")
        return self.constants[node.inputs[position]]

    def edge(self, value: str) -> Edge:
        """The value in the graph; one that is constant becomes a parameter."""
        if value not in self.edges:
            self.edges[value] = self.parameter(value, self.constants[value])
        return self.edges[value]

    def parameter(self, value: str, array: np.ndarray) -> Edge:
        """A parameter of such values, named as the ONNX value that it is made of."""
        name = value
        if name in self.params and np.array_equal(self.params[name], array):
            return Edge(name)
        name = self._fresh(name)
        self.nodes.append(Node(name))
        self.params[name] = np.ascontiguousarray(array)
        return Edge(name)

    def shape(self, value: str) -> Shape:
        """Shape of a value, its sizes numbers, `BATCH` or `UNKNOWN`; empty where not even their number is known."""
        if self.is_constant(value):
            return self.constants[value].shape
        if self.edges[value].node in self.inputs:
            return (BATCH, *(size or UNKNOWN for size in self.inputs[self.edges[value].node]))
        if value not in self._inferred:
            self._inferred[value] = self._infer(value)
        return self._inferred[value]

    def _infer(self, value: str) -> Shape:
        """What MXNet says of the graph as far as it is."""
        graph = Graph(tuple(self.nodes), (self.edges[value],), codec.current_version_attrs())
        part = Network(graph, self.params)
        known = {name: shape for name, shape in self.inputs.items() if 0 not in shape}
        shapes = [symbols.infer_shapes(part, known, count)[1][0] for count in (2, 3)]
        if shapes[0] is None or shapes[1] is None:
            return ()
        return tuple(one if one == two else BATCH for one, two in zip(*shapes, strict=True))

    def rank(self, node: OnnxNode, position: int = 0) -> int:
        """Number of axes of an input; an error where it is not known."""
        value = node.inputs[position]
        shape = self.shape(value)
        if not shape and not self.is_constant(value):
            raise refusal(node, f"the number of axes of {value!r} is not known")
        return len(shape)

    def put(self, node: OnnxNode, op: str, attrs: Mapping[str, Any], *inputs: Edge, part: str = "") -> Edge:
        """Add a layer, named as the node, or as a part of it."""
        name = self._fresh(node.name + part)
        self.nodes.append(Node(name, op, {key: str(value) for key, value in attrs.items()}, inputs))
        return Edge(name)

    def _fresh(self, name: str) -> str:
        found = fresh_name(name, self._taken)
        self._taken.add(found)
        return found
