"""What each ONNX operator is in MXNet: a function an operator, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from xfer2.model_handler.graph.model import Edge
from xfer2.model_handler.onnx_translation import BATCH, OnnxNode, Translation, refusal

_LARGEST = float(np.finfo(np.float32).max)
_FLOATS = (1, 10, 11, 16)  # ONNX's numbers of float, float16, double, bfloat16

Result = Edge | list[Edge]
Operator = Callable[[Translation, OnnxNode], Result]


# --- layers with parameters ---------------------------------------------------------------------------------------


def _convolution(t: Translation, node: OnnxNode) -> Edge:
    weight = t.constant(node, 1)
    x, attrs = _windows(t, node, weight.shape[2:], 0.0)
    turned = node.op == "ConvTranspose"
    groups = int(node.attrs.get("group", 1))
    attrs |= {"num_filter": weight.shape[1] * groups if turned else len(weight), "num_group": groups,
              "no_bias": not node.reads(2)}
    if turned and any(node.attrs.get("output_padding", ())):
        attrs["adj"] = tuple(node.attrs["output_padding"])
    parameters = [t.parameter(node.inputs[number], t.constant(node, number)) for number in (1, 2) if node.reads(number)]
    return t.put(node, "Deconvolution" if turned else "Convolution", attrs, x, *parameters)


def _gemm(t: Translation, node: OnnxNode) -> Edge:
    if node.attrs.get("transA", 0):
        raise refusal(node, "transA is not 0")
    alpha, beta = (np.float32(node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    weight = t.constant(node, 1) if node.attrs.get("transB", 0) else t.constant(node, 1).T
    weight = weight if alpha == 1 else alpha * weight
    inputs = [t.edge(node.inputs[0]), t.parameter(node.inputs[1], weight)]
    if node.reads(2):
        inputs.append(t.parameter(node.inputs[2], np.broadcast_to(beta * t.constant(node, 2).reshape(-1), len(weight))))
    return t.put(node, "FullyConnected", {"num_hidden": len(weight), "no_bias": len(inputs) < 3}, *inputs)


def _matmul(t: Translation, node: OnnxNode) -> Edge:
    if t.is_constant(node.inputs[1]) and t.constant(node, 1).ndim == 2:
        weight = t.constant(node, 1).T
        return t.put(node, "FullyConnected", {"num_hidden": len(weight), "no_bias": True, "flatten": False},
                     t.edge(node.inputs[0]), t.parameter(node.inputs[1], weight))
    return t.put(node, "_linalg_gemm2", {}, *map(t.edge, node.inputs))


def _batch_normalization(t: Translation, node: OnnxNode) -> Edge:
    attrs = {"eps": node.attrs.get("epsilon", 1e-5), "momentum": node.attrs.get("momentum", 0.9), "fix_gamma": False}
    return t.put(node, "BatchNorm", attrs, *map(t.edge, node.inputs))


def _normalization(op: str) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        axis = node.attrs.get("axis", -1)
        if op == "LayerNorm" and (axis not in (-1, t.rank(node) - 1) or not node.reads(2)):
            raise refusal(node, "it is known only with a bias, and over the last axis")
        return t.put(node, op, {"eps": node.attrs.get("epsilon", 1e-5)}, *map(t.edge, node.inputs))
    return translate


def _slopes(t: Translation, node: OnnxNode) -> Edge:
    slope = t.parameter(node.inputs[1], t.constant(node, 1).reshape(-1))
    return t.put(node, "LeakyReLU", {"act_type": "prelu"}, t.edge(node.inputs[0]), slope)


def _gather(t: Translation, node: OnnxNode) -> Edge:
    axis = int(node.attrs.get("axis", 0))
    if t.is_constant(node.inputs[0]) and axis == 0:
        return t.put(node, "take", {"axis": 0}, t.edge(node.inputs[0]), t.edge(node.inputs[1]))
    index = t.constant(node, 1)
    if index.ndim:
        raise refusal(node, "more than one index is read")
    one = t.put(node, "slice_axis", _between(axis, int(index), int(index) + 1), t.edge(node.inputs[0]), part="_slice")
    return t.put(node, "squeeze", {"axis": axis}, one)


# --- windows ------------------------------------------------------------------------------------------------------


def _windows(t: Translation, node: OnnxNode, kernel: Sequence[int], filling: float) -> tuple[Edge, dict[str, Any]]:
    """What a convolution or pooling reads, padded where MXNet's layer cannot do it itself, and its attributes."""
    rank = len(kernel)
    stride = tuple(node.attrs.get("strides", (1,) * rank))
    dilate = tuple(node.attrs.get("dilations", (1,) * rank))
    x, (before, after) = t.edge(node.inputs[0]), _pads(t, node, kernel, stride, dilate)
    attrs = {"kernel": tuple(kernel), "stride": stride, "pad": before, "dilate": dilate}
    if before != after:
        if rank == 1 or node.op == "ConvTranspose":
            raise refusal(node, "the padding before and after is not the same")
        width = _in_turn((0, 0, *before), (0, 0, *after))
        x = t.put(node, "Pad", {"mode": "constant", "constant_value": filling, "pad_width": width}, x, part="_pad")
        attrs["pad"] = (0,) * rank
    return x, attrs


def _in_turn(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    """Padding before and after each axis, as MXNet's Pad takes it."""
    return tuple(size for pair in zip(before, after, strict=True) for size in pair)


def _pads(t: Translation, node: OnnxNode, kernel: Sequence[int], stride: Sequence[int],
          dilate: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after."""
    rank, how = len(kernel), node.attrs.get("auto_pad", "NOTSET")
    if how == "NOTSET":
        pads = tuple(node.attrs.get("pads", (0,) * 2 * rank))
        return pads[:rank], pads[rank:]
    if how == "VALID":
        return (0,) * rank, (0,) * rank
    shape = t.shape(node.inputs[0])
    if len(shape) != rank + 2 or min(shape[2:]) < 0 or node.op == "ConvTranspose":
        raise refusal(node, f"auto_pad is {how}, and the size of what it reads is not known")
    total = [max((-(-size // step) - 1) * step + (width - 1) * apart + 1 - size, 0)
             for size, width, step, apart in zip(shape[2:], kernel, stride, dilate, strict=True)]
    small, large = tuple(size // 2 for size in total), tuple(size - size // 2 for size in total)
    return (large, small) if how == "SAME_LOWER" else (small, large)


def _pooling(kind: str) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        counted = bool(node.attrs.get("count_include_pad", 0))
        x, attrs = _windows(t, node, node.attrs["kernel_shape"], 0.0 if kind == "avg" else -_LARGEST)
        if set(attrs.pop("dilate")) != {1}:
            raise refusal(node, "its windows have holes")
        if kind == "avg" and not counted and x != t.edge(node.inputs[0]):
            raise refusal(node, "the padding before and after is not the same, and is not counted")
        attrs |= {"pool_type": kind, "pooling_convention": "full" if node.attrs.get("ceil_mode", 0) else "valid"}
        return t.put(node, "Pooling", attrs | ({"count_include_pad": counted} if kind == "avg" else {}), x)
    return translate


def _global_pooling(kind: str) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        attrs = {"global_pool": True, "pool_type": kind, "kernel": (1,) * (t.rank(node) - 2)}
        return t.put(node, "Pooling", attrs, t.edge(node.inputs[0]))
    return translate


def _padding(t: Translation, node: OnnxNode) -> Edge:
    pads = [int(size) for size in (node.attrs["pads"] if "pads" in node.attrs else t.constant(node, 1))]
    value = float(t.constant(node, 2)) if node.reads(2) else node.attrs.get("value", 0.0)
    rank = len(pads) // 2
    if rank not in (4, 5) or any(pads[:2] + pads[rank:rank + 2]) or min(pads) < 0 or node.reads(3):
        raise refusal(node, "only height, width and depth of maps can be padded")
    attrs = {"mode": node.attrs.get("mode", "constant"), "constant_value": value,
             "pad_width": _in_turn(pads[:rank], pads[rank:])}
    return t.put(node, "Pad", attrs, t.edge(node.inputs[0]))


def _resizing(t: Translation, node: OnnxNode) -> Edge:
    position = 1 if node.op == "Upsample" else 2
    scales = t.constant(node, position).tolist() if node.reads(position) else []
    if node.attrs.get("mode", "nearest") != "nearest" or len(scales) != 4 or scales[:2] != [1, 1] or (
            scales[2] != scales[3] or scales[2] != int(scales[2])):
        raise refusal(node, "only the nearest pixel is known, and one whole number of times both ways")
    attrs = {"scale": int(scales[2]), "sample_type": "nearest", "num_args": 1}
    return t.put(node, "UpSampling", attrs, t.edge(node.inputs[0]))


# --- element by element -------------------------------------------------------------------------------------------


def _unary(op: str, **attrs: Any) -> Operator:
    return lambda t, node: t.put(node, op, attrs, t.edge(node.inputs[0]))


def _with_attribute(op: str, fixed: Mapping[str, Any], **named: tuple[str, float]) -> Operator:
    """An operator of one input, whose attributes have other names in ONNX, and defaults."""
    return lambda t, node: t.put(node, op, {**fixed, **{ours: node.attrs.get(theirs, default)
                                                        for ours, (theirs, default) in named.items()}},
                                 t.edge(node.inputs[0]))


def _binary(op: str, scalar: str, turned: str) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        for position, name in ((1, scalar), (0, turned)):
            value, other = node.inputs[position], node.inputs[1 - position]
            if t.is_constant(value) and t.constant(node, position).size == 1 and not t.is_constant(other):
                return t.put(node, name, {"scalar": float(t.constant(node, position).reshape(()))}, t.edge(other))
        if op == "add" and not any(map(t.is_constant, node.inputs)) and t.shape(node.inputs[0]) == t.shape(node.inputs[1]):
            return t.put(node, "elemwise_add", {}, *map(t.edge, node.inputs))
        return t.put(node, f"broadcast_{op}", {}, *_of_one_rank(t, node))
    return translate


def _of_one_rank(t: Translation, node: OnnxNode) -> list[Edge]:
    """Inputs with axes of size 1 put before them, until all have as many axes."""
    ranks = [t.rank(node, position) for position in range(len(node.inputs))]
    edges = []
    for position, value in enumerate(node.inputs):
        missing = max(ranks) - ranks[position]
        if t.is_constant(value):
            array = t.constant(node, position)
            edges.append(t.parameter(value, array.reshape((1,) * missing + array.shape)))
        elif missing:
            raise refusal(node, f"{value!r} has fewer axes than what it is joined with")
        else:
            edges.append(t.edge(value))
    return edges


def _several(op: str) -> Operator:
    """An operator that takes two, in ONNX any number."""
    def translate(t: Translation, node: OnnxNode) -> Edge:
        edges = _of_one_rank(t, node)
        for number, edge in enumerate(edges[1:], 1):
            part = "" if number == len(edges) - 1 else f"_{number}"
            edges[0] = t.put(node, f"broadcast_{op}", {}, edges[0], edge, part=part)
        return edges[0]
    return translate


def _clip(t: Translation, node: OnnxNode) -> Edge:
    low, high = (float(t.constant(node, position)) if node.reads(position) else node.attrs.get(name, default)
                 for position, name, default in ((1, "min", -_LARGEST), (2, "max", _LARGEST)))
    return t.put(node, "clip", {"a_min": low, "a_max": high}, t.edge(node.inputs[0]))


def _hard_swish(t: Translation, node: OnnxNode) -> Edge:
    gate = t.put(node, "hard_sigmoid", {"alpha": 1 / 6, "beta": 0.5}, t.edge(node.inputs[0]), part="_gate")
    return t.put(node, "elemwise_mul", {}, t.edge(node.inputs[0]), gate)


def _gelu(t: Translation, node: OnnxNode) -> Edge:
    if node.attrs.get("approximate", "none") != "none":
        raise refusal(node, "it is an approximation")
    return t.put(node, "LeakyReLU", {"act_type": "gelu"}, t.edge(node.inputs[0]))


def _softmax(op: str) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        axis = int(node.attrs.get("axis", -1 if t.opset >= 13 else 1))
        if t.opset < 13 and axis % t.rank(node) != t.rank(node) - 1:
            raise refusal(node, "before opset 13 it is over several axes")
        return t.put(node, op, {"axis": axis}, t.edge(node.inputs[0]))
    return translate


def _dropout(t: Translation, node: OnnxNode) -> Edge:
    ratio = float(t.constant(node, 1)) if node.reads(1) else node.attrs.get("ratio", 0.5)
    return t.put(node, "Dropout", {"p": ratio}, t.edge(node.inputs[0]))


def _cast(t: Translation, node: OnnxNode) -> Edge:
    if node.attrs["to"] not in _FLOATS:
        raise refusal(node, "it makes whole numbers")
    return t.edge(node.inputs[0])


# --- shapes -------------------------------------------------------------------------------------------------------


def _flatten(t: Translation, node: OnnxNode) -> Edge:
    if node.attrs.get("axis", 1) != 1:
        raise refusal(node, "its axis is not 1")
    return t.put(node, "Flatten", {}, t.edge(node.inputs[0]))


def _reshape(t: Translation, node: OnnxNode) -> Edge:
    target = [int(size) for size in t.constant(node, 1)]
    if target and (target[0] == BATCH or (target[0] == t.batch and t.shape(node.inputs[0])[:1] == (BATCH,))):
        target[0] = 0  # as many as there are
    if min(target, default=0) < -1 or node.attrs.get("allowzero", 0):
        raise refusal(node, "its shape depends on the number of examples")
    return t.put(node, "Reshape", {"shape": tuple(target)}, t.edge(node.inputs[0]))


def _axes(t: Translation, node: OnnxNode) -> tuple[int, ...]:
    """Axes, which newer opsets have for an input and older ones for an attribute."""
    if "axes" in node.attrs:
        return tuple(node.attrs["axes"])
    if not node.reads(1):
        raise refusal(node, "it does not say which axes")
    return tuple(t.constant(node, 1).reshape(-1).tolist())


def _squeeze(t: Translation, node: OnnxNode) -> Edge:
    return t.put(node, "squeeze", {"axis": _axes(t, node)}, t.edge(node.inputs[0]))


def _unsqueeze(t: Translation, node: OnnxNode) -> Edge:
    axes = _axes(t, node)
    rank = t.rank(node) + len(axes)
    edge, ordered = t.edge(node.inputs[0]), sorted(axis % rank for axis in axes)
    for number, axis in enumerate(ordered, 1):
        edge = t.put(node, "expand_dims", {"axis": axis}, edge, part="" if number == len(ordered) else f"_{axis}")
    return edge


def _transpose(t: Translation, node: OnnxNode) -> Edge:
    order = node.attrs.get("perm") or range(t.rank(node))[::-1]
    return t.put(node, "transpose", {"axes": tuple(order)}, t.edge(node.inputs[0]))


def _concat(t: Translation, node: OnnxNode) -> Edge:
    return t.put(node, "Concat", {"dim": node.attrs["axis"], "num_args": len(node.inputs)}, *map(t.edge, node.inputs))


def _between(axis: int, start: int, stop: int) -> dict[str, Any]:
    """Attributes of a slice; its end is the axis's own where it is beyond it, or where it counts from the end to 0."""
    return {"axis": axis, "begin": start, "end": None if stop >= 1 << 30 or (start < 0 and stop == 0) else stop}


def _slice(t: Translation, node: OnnxNode) -> Edge:
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
        if shape and shape[axis] > 0:
            stop = min(stop, shape[axis])
        edge = t.put(node, "slice_axis", _between(axis, start, stop), edge, part="" if number == len(starts) else f"_{axis}")
    return edge


def _split(t: Translation, node: OnnxNode) -> Result:
    axis, count = int(node.attrs.get("axis", 0)), len(node.outputs)
    sizes = node.attrs.get("split") or (t.constant(node, 1).tolist() if node.reads(1) else None)
    if count == 1:
        return t.edge(node.inputs[0])
    if sizes is None or len(set(sizes)) == 1:
        whole = t.put(node, "SliceChannel", {"num_outputs": count, "axis": axis}, t.edge(node.inputs[0]))
        return [Edge(whole.node, number) for number in range(count)]
    ends = np.cumsum([0, *sizes]).tolist()
    return [t.put(node, "slice_axis", _between(axis, start, stop), t.edge(node.inputs[0]), part=f"_{number}")
            for number, (start, stop) in enumerate(pairwise(ends))]


def _reduction(op: str, **more: Any) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        attrs = {"axis": _axes(t, node), "keepdims": bool(node.attrs.get("keepdims", 1)), **more}
        return t.put(node, op, attrs, t.edge(node.inputs[0]))
    return translate


OPERATORS: Mapping[str, Operator] = {
    "Conv": _convolution, "ConvTranspose": _convolution, "Gemm": _gemm, "MatMul": _matmul, "Gather": _gather,
    "BatchNormalization": _batch_normalization, "InstanceNormalization": _normalization("InstanceNorm"),
    "LayerNormalization": _normalization("LayerNorm"), "PRelu": _slopes,
    "MaxPool": _pooling("max"), "AveragePool": _pooling("avg"), "GlobalMaxPool": _global_pooling("max"),
    "GlobalAveragePool": _global_pooling("avg"), "Pad": _padding, "Resize": _resizing, "Upsample": _resizing,
    "LRN": _with_attribute("LRN", {}, alpha=("alpha", 1e-4), beta=("beta", 0.75), knorm=("bias", 1.0), nsize=("size", 5)),
    "Relu": _unary("Activation", act_type="relu"), "Sigmoid": _unary("Activation", act_type="sigmoid"),
    "Tanh": _unary("Activation", act_type="tanh"), "Softplus": _unary("Activation", act_type="softrelu"),
    "Softsign": _unary("Activation", act_type="softsign"), "Selu": _unary("LeakyReLU", act_type="selu"),
    "LeakyRelu": _with_attribute("LeakyReLU", {"act_type": "leaky"}, slope=("alpha", 0.01)),
    "Elu": _with_attribute("LeakyReLU", {"act_type": "elu"}, slope=("alpha", 1.0)),
    "HardSigmoid": _with_attribute("hard_sigmoid", {}, alpha=("alpha", 0.2), beta=("beta", 0.5)),
    "HardSwish": _hard_swish, "Gelu": _gelu, "Clip": _clip, "Dropout": _dropout, "Cast": _cast,
    "Softmax": _softmax("softmax"), "LogSoftmax": _softmax("log_softmax"),
    "Identity": lambda t, node: t.edge(node.inputs[0]),
    **{theirs: _unary(ours) for theirs, ours in {
        "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Neg": "negative", "Abs": "abs", "Erf": "erf"}.items()},
    "Add": _binary("add", "_plus_scalar", "_plus_scalar"), "Sub": _binary("sub", "_minus_scalar", "_rminus_scalar"),
    "Mul": _binary("mul", "_mul_scalar", "_mul_scalar"), "Div": _binary("div", "_div_scalar", "_rdiv_scalar"),
    "Pow": _binary("power", "_power_scalar", "_rpower_scalar"),
    "Max": _several("maximum"), "Min": _several("minimum"), "Sum": _several("add"),
    "Flatten": _flatten, "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Concat": _concat, "Slice": _slice, "Split": _split,
    "ReduceMean": _reduction("mean"), "ReduceSum": _reduction("sum"), "ReduceMax": _reduction("max"),
    "ReduceMin": _reduction("min"), "ReduceL2": _reduction("norm", ord=2),
}
