"""Lengths of sequences, checked before MXNet computes with them: it looks at none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xfer2.exceptions import DataError
from xfer2.model_handler import symbols
from xfer2.model_handler.graph import operators
from xfer2.model_handler.graph.model import Edge, Node
from xfer2.model_handler.network import Network


class LengthCheck:
    """Raises where a batch says of a sequence that it is longer than it is: MXNet would read, or write, beyond its array.

    Checked are inputs of the network that a layer takes for lengths as they are.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        found = [(self._unchanged(edge), node) for node in network.graph.nodes
                 if (edge := operators.input_of(node, operators.LENGTH))]
        self._lengths = [(name, node) for name, node in found if name in network.inputs]
        self._steps: dict[tuple[tuple[int, ...], ...], list[int | None]] = {}

    def __call__(self, batch: Mapping[str, np.ndarray]) -> None:
        """Check the inputs of the network by name."""
        if not self._lengths:
            return
        key = tuple(batch[name].shape for name in self._network.inputs)
        if key not in self._steps:
            self._steps[key] = self._steps_of(batch)
        for (name, node), steps in zip(self._lengths, self._steps[key], strict=True):
            if steps is None:
                continue
            values, least = batch[name].reshape(len(batch[name]), -1), int(node.op == "SequenceLast")
            good = ((values >= least) & (values <= steps) & (values == np.floor(values))).all(axis=1)
            if not good.all():
                row = int(np.argmin(good))
                raise DataError(f"The data for the input {name!r} are lengths of sequences for the layer {node.name!r} "
                                f"({node.op}): whole numbers from {least} to {steps}, the number of steps. Row {row} of the "
                                f"batch has {values[row].tolist()}; correct the lengths, or give longer sequences.")

    def _steps_of(self, batch: Mapping[str, np.ndarray]) -> list[int | None]:
        """How many steps the sequences of each layer have; None where that does not follow."""
        shapes, count = {name: array.shape[1:] for name, array in batch.items()}, len(next(iter(batch.values())))
        symbols.shapes_for_data(self._network, shapes, count)  # what does not fit at all is said first, as the data's error
        _, found = symbols.infer_shapes(self._network, shapes, count, [node.inputs[0] for _, node in self._lengths])
        return [None if shape is None else shape[_axis(node)] for (_, node), shape in zip(self._lengths, found, strict=True)]

    def _unchanged(self, edge: Edge) -> str:
        node = self._network.graph.by_name[edge.node]
        return self._unchanged(node.inputs[0]) if node.op in operators.SHAPING else node.name


def _axis(node: Node) -> int:
    return int(node.attrs.get("axis", "-1" if node.op == "softmax" else "0"))
