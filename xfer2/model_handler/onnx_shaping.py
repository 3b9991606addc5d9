"""ONNX's operators that move values and compute none: what each is in MXNet."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from xfer2.model_handler.graph.model import Edge
from xfer2.model_handler.onnx_translation import BATCH, UNKNOWN, OnnxNode, Result, Translation, refusal

_FAR = 1 << 30  # ends beyond it mean the axis's own end; MXNet's attributes are of 32 bits


def flatten(t: Translation, node: OnnxNode) -> Edge:
    """Flatten."""
    if node.attrs.get("axis", 1) != 1:
        raise refusal(node, "its axis is not 1")
    return t.put(node, "Flatten", {}, t.edge(node.inputs[0]))


def reshape(t: Translation, node: OnnxNode) -> Edge:
    """Reshape: the number of examples becomes 0 (as what is read) or -1 (what is left)."""
    target = [int(size) for size in t.constant(node, 1, free=True)]
    first = t.shape(node.inputs[0])[:1]
    if target and target[0] in (BATCH, t.batch) and first == (BATCH,):
        target[0] = 0
    elif target and target[0] == t.batch and first == (UNKNOWN,) and -1 not in target:
        target[0] = -1  # what is read has another number of rows for another number of examples, and so has this
    unsaid = [position for position, size in enumerate(target) if size in (BATCH, UNKNOWN)]
    if len(unsaid) == 1 and -1 not in target:
        target[unsaid.pop()] = -1
    if unsaid or min(target, default=0) < -1 or node.attrs.get("allowzero", 0):
        raise refusal(node, "its shape depends on the number of examples, or on sizes that the file leaves free")
    return t.put(node, "Reshape", {"shape": tuple(target)}, t.edge(node.inputs[0]))


def axes_of(t: Translation, node: OnnxNode) -> tuple[int, ...]:
    """Axes, which newer opsets have for an input and older ones for an attribute."""
    if "axes" in node.attrs:
        return tuple(node.attrs["axes"])
    if not node.reads(1):
        raise refusal(node, "it does not say which axes")
    return tuple(t.constant(node, 1).reshape(-1).tolist())


def squeeze(t: Translation, node: OnnxNode) -> Edge:
    """Squeeze."""
    return t.put(node, "squeeze", {"axis": axes_of(t, node)}, t.edge(node.inputs[0]))


def unsqueeze(t: Translation, node: OnnxNode) -> Edge:
    """Unsqueeze."""
    axes = axes_of(t, node)
    rank = t.rank(node) + len(axes)
    edge, ordered = t.edge(node.inputs[0]), sorted(axis % rank for axis in axes)
    for number, axis in enumerate(ordered, 1):
        edge = t.put(node, "expand_dims", {"axis": axis}, edge, part="" if number == len(ordered) else f"_{axis}")
    return edge


def transpose(t: Translation, node: OnnxNode) -> Edge:
    """Transpose."""
    order = node.attrs.get("perm") or range(t.rank(node))[::-1]
    return t.put(node, "transpose", {"axes": tuple(order)}, t.edge(node.inputs[0]))


def concat(t: Translation, node: OnnxNode) -> Edge:
    """Concat."""
    return t.put(node, "Concat", {"dim": node.attrs["axis"], "num_args": len(node.inputs)}, *map(t.edge, node.inputs))


def between(axis: int, start: int, stop: int) -> dict[str, Any]:
    """Attributes of a slice; its end is the axis's own where it is beyond it, or where it counts from the end to 0."""
    return {"axis": axis, "begin": start, "end": None if stop >= _FAR or (start < 0 and stop == 0) else stop}


def slicing(t: Translation, node: OnnxNode) -> Edge:
    """Slice of steps of 1; ONNX draws starts and ends that lie outside an axis to its ends."""
    if "starts" in node.attrs:
        starts, stops = node.attrs["starts"], node.attrs["ends"]
        axes, steps = node.attrs.get("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, stops = (t.constant(node, position).tolist() for position in (1, 2))
        axes = t.constant(node, 3).tolist() if node.reads(3) else range(len(starts))
        steps = t.constant(node, 4).tolist() if node.reads(4) else [1] * len(starts)
    if set(steps) != {1}:
        raise refusal(node, "it leaves out what is between")
    edge, shape = t.edge(node.inputs[0]), t.shape(node.inputs[0])
    for number, (axis, start, stop) in enumerate(zip(axes, starts, stops, strict=True), 1):
        part = "" if number == len(starts) else f"_{axis}"
        size = shape[axis] if shape else 0
        if size < 0:
            edge = t.put(node, "slice", _within(axis % len(shape), start, stop), edge, part=part)
            continue
        if size:
            start, stop = max(start, -size), min(stop, size)
        edge = t.put(node, "slice_axis", between(axis, start, stop), edge, part=part)
    return edge


def _within(axis: int, start: int, stop: int) -> dict[str, Any]:
    """Attributes of a slice of an axis of unknown size: this operator, unlike slice_axis, draws both to the axis's ends."""
    before = (None,) * axis
    return {"begin": (*before, None if start < -_FAR else start), "end": (*before, between(axis, start, stop)["end"])}


def split(t: Translation, node: OnnxNode) -> Result:
    """Split."""
    axis, count = int(node.attrs.get("axis", 0)), len(node.outputs)
    sizes = node.attrs.get("split") or (t.constant(node, 1).tolist() if node.reads(1) else None)
    if count == 1:
        return t.edge(node.inputs[0])
    if sizes is None or len(set(sizes)) == 1:
        whole = t.put(node, "SliceChannel", {"num_outputs": count, "axis": axis}, t.edge(node.inputs[0]))
        return [Edge(whole.node, number) for number in range(count)]
    ends = np.cumsum([0, *sizes]).tolist()
    return [t.put(node, "slice_axis", between(axis, start, stop), t.edge(node.inputs[0]), part=f"_{number}")
            for number, (start, stop) in enumerate(pairwise(ends))]
