"""The table a person reads: layer, type, output shape, parameters, FLOPs, frozen; and what differs between two."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xfer2.model_handler import symbols
from xfer2.model_handler.graph import query
from xfer2.model_handler.graph.model import Edge, Graph, Node
from xfer2.model_handler.network import Network, Preprocessing
from xfer2.model_handler.symbols import Shape


@dataclass(frozen=True)
class LayerRow:
    """One line of a summary; shapes are without the batch axis, None where they do not follow from what is known."""

    name: str
    type: str
    output_shape: Shape | None
    parameters: int
    flops: int | None
    frozen: bool


@dataclass(frozen=True)
class Summary:
    """A network as a table. ``print(summary)`` lays it out, ``rows`` and ``to_frame()`` give it as data."""

    rows: tuple[LayerRow, ...]
    inputs: Mapping[str, Shape | None]
    parameters: int
    frozen_parameters: int

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame([vars(row) for row in self.rows])

    @property
    def flops(self) -> int | None:
        """Floating-point operations for one example (a multiplication and an addition are two); None if unknown."""
        counts = [row.flops for row in self.rows]
        return None if any(count is None for count in counts) else sum(count or 0 for count in counts)

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]], str]:
        """The table as people read it: names of the columns, a line a layer, and the sum in a sentence."""
        columns = ("layer", "type", "output shape", "parameters", "FLOPs", "frozen")
        body: list[tuple[str, ...]] = [
            (row.name, row.type, _shape(row.output_shape), f"{row.parameters:,}" if row.parameters else "",
             _count(row.flops), "yes" if row.frozen else "") for row in self.rows]
        total = (f"{len(self.rows)} layers, {self.parameters:,} parameters ({self.frozen_parameters:,} frozen), "
                 f"{_count(self.flops) or 0} FLOPs an example")
        return columns, body, total

    @property
    def inputs_text(self) -> str:
        """The inputs with their shapes, on a line."""
        return "inputs: " + ", ".join(f"{name} {_shape(shape)}" for name, shape in self.inputs.items())

    def __str__(self) -> str:
        header, body, total = self.cells()
        widths = [max(len(line[column]) for line in [header, *body]) for column in range(len(header))]
        numeric = (3, 4)

        def lay_out(line: tuple[str, ...]) -> str:
            cells = (cell.rjust(width) if column in numeric else cell.ljust(width)
                     for column, (cell, width) in enumerate(zip(line, widths, strict=True)))
            return "  ".join(cells).rstrip()

        rule = "-" * len(lay_out(header).ljust(sum(widths) + 2 * len(widths) - 2))
        return "\n".join([self.inputs_text, lay_out(header), rule, *map(lay_out, body), rule, total])


def summarize(network: Network, input_shapes: Mapping[str, Shape] | None = None) -> Summary:
    """Tabulate a network; where the input's shape is unknown, give it to see output shapes and FLOPs."""
    shapes = symbols.layer_shapes(network, input_shapes)
    variable_shapes, _ = symbols.infer_shapes(network, input_shapes)
    sizes = {name: math.prod(variable_shapes.get(name, (0,))) for name in network.parameter_names}
    rows = []
    for node in (network.graph.layer(name) for name in network.graph.layer_names):
        own = network.layer_parameters[node.name]
        weight = next((variable_shapes[name] for name in own if name in variable_shapes), None)
        rows.append(LayerRow(node.name, node.op or "", shapes[node.name], sum(sizes[name] for name in own),
                             _flops(node, shapes[node.name], weight), node.name in network.frozen))
    given = {**network.input_shapes, **(input_shapes or {})}
    return Summary(tuple(rows), {name: given.get(name) for name in network.inputs}, sum(sizes.values()),
                   sum(sizes[name] for name in network.frozen_parameters))


def differences(old: Network, new: Network) -> str:
    """What changed from one network to the other, a line each; an empty text where nothing did.

    Layers added and removed, their attributes and what they read, inputs, outputs, layers frozen, the preprocessing record,
    parameter values.
    """
    lines: list[str] = []
    before, after = old.graph, new.graph
    lines += [f"- {name} ({before.by_name[name].op})" for name in before.layer_names if name not in after.by_name]
    lines += [f"+ {name} ({after.by_name[name].op})" for name in after.layer_names if name not in before.by_name]
    for name in after.layer_names:
        first, second = before.by_name.get(name), after.by_name[name]
        if first is not None and first != second:
            lines.append(f"~ {name}: {_node_change(before, after, name)}")
    for label, one, two in (("inputs", old.inputs, new.inputs),
                            ("outputs", _names(before, before.outputs), _names(after, after.outputs)),
                            ("frozen", tuple(sorted(old.frozen)), tuple(sorted(new.frozen)))):
        if one != two:
            lines.append(f"~ {label}: {', '.join(one) or 'none'} -> {', '.join(two) or 'none'}")
    if old.preprocessing != new.preprocessing:
        lines.append(f"~ preprocessing: {_record_change(old.preprocessing, new.preprocessing)}")
    for name in new.parameter_names:
        was, now = old.params.get(name), new.params.get(name)
        if was is not None and now is not None and was is not now:
            if was.shape != now.shape:
                lines.append(f"~ {name}: shape {was.shape} -> {now.shape}")
            elif (was.asnumpy() != now.asnumpy()).any():
                lines.append(f"~ {name}: values")
    return "\n".join(lines)


def _record_change(first: Preprocessing | None, second: Preprocessing | None) -> str:
    if first is None or second is None:
        return " -> ".join("none" if record is None else "given" for record in (first, second))
    was, now = vars(first), vars(second)
    return "; ".join(f"{name} {was[name]} -> {now[name]}" for name in was if was[name] != now[name])


def _node_change(before: Graph, after: Graph, name: str) -> str:
    first, second = before.by_name[name], after.by_name[name]
    changes = [] if first.op == second.op else [f"type {first.op} -> {second.op}"]
    changes += [f"{key} {first.attrs.get(key)} -> {second.attrs.get(key)}"
                for key in sorted({*first.attrs, *second.attrs}) if first.attrs.get(key) != second.attrs.get(key)]
    if first.inputs != second.inputs:
        changes.append(f"reads {', '.join(_names(before, first.inputs))} -> {', '.join(_names(after, second.inputs))}")
    return "; ".join(changes)


def _names(graph: Graph, edges: Iterable[Edge]) -> tuple[str, ...]:
    return tuple(query.output_name(graph, edge) for edge in edges)


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"


def _count(value: int | None) -> str:
    if value is None:
        return "?"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.2f} {unit}"
    return str(value) if value else ""


def _flops(node: Node, output: Shape | None, weight: Shape | None) -> int | None:
    """Two per multiply-add of the layers that dominate; other layers count one per element of their output."""
    if output is None:
        return None
    if node.op in ("Convolution", "FullyConnected") and weight is not None:
        positions = math.prod(output[1:]) if node.op == "Convolution" else math.prod(output[:-1])
        return 2 * math.prod(weight) * positions
    if node.op == "Deconvolution" and weight is not None:
        stride = ast.literal_eval(node.attrs.get("stride", "(1,)").replace("L", ""))  # Python 2 wrote (2L, 2L)
        return 2 * math.prod(weight) * math.prod(output[1:]) // math.prod(stride)
    return math.prod(output)
