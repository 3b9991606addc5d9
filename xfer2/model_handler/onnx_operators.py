"""What each ONNX operator is in MXNet: a function an operator, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xfer2.model_handler import onnx_shaping as shaping
from xfer2.model_handler.graph.model import Edge
from xfer2.model_handler.onnx_translation import UNKNOWN, OnnxNode, Operator, Translation, refusal

_LARGEST = float(np.finfo(np.float32).max)
_FLOATS = (1, 10, 11, 16)  # ONNX's numbers of float, float16, double, bfloat16


# --- layers with parameters ---------------------------------------------------------------------------------------


def _convolution(t: Translation, node: OnnxNode) -> Edge:
    weight = t.constant(node, 1)
    x, attrs = _windows(t, node, weight.shape[2:], 0.0)
    turned = node.op == "ConvTranspose"
    groups = int(node.attrs.get("group", 1))
    if groups < 1:  # MXNet would divide by it, which ends the process
        raise refusal(node, f"group must be at least 1; it is {groups}")
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
        bias = t.constant(node, 2)
        if bias.size != (bias.shape or (1,))[-1]:
            raise refusal(node, f"what it adds has the shape {bias.shape}, and is not the same for all examples")
        inputs.append(t.parameter(node.inputs[2], np.broadcast_to(beta * bias.reshape(-1), len(weight))))
    return t.put(node, "FullyConnected", {"num_hidden": len(weight), "no_bias": len(inputs) < 3}, *inputs)


def _matmul(t: Translation, node: OnnxNode) -> Edge:
    if t.is_constant(node.inputs[1]):
        weight = t.constant(node, 1)
        if 2 <= weight.ndim <= max(2, len(t.shape(node.inputs[0]))) and set(weight.shape[:-2]) <= {1}:
            weight = weight.reshape(weight.shape[-2:]).T
            return t.put(node, "FullyConnected", {"num_hidden": len(weight), "no_bias": True, "flatten": False},
                         t.edge(node.inputs[0]), t.parameter(node.inputs[1], weight))
    return t.put(node, "_linalg_gemm2", {}, *map(t.edge, node.inputs))


def _with_bias(t: Translation, node: OnnxNode) -> Edge | None:
    """The dense layer below, where all that the node does is to add its bias, as Keras writes it."""
    for position in (0, 1):
        value, other = node.inputs[position], node.inputs[1 - position]
        below = t.made_by(other)
        if not t.is_constant(value) or below is None or below.op != "FullyConnected" or not below.is_on("no_bias"):
            continue
        bias = t.constant(node, position)
        if bias.shape[-1:] == (int(below.attrs["num_hidden"]),) and bias.size == bias.shape[-1] and (
                bias.ndim <= t.rank(node, 1 - position)):
            return t.give_bias(t.edge(other), value, bias.reshape(-1))
    return None


def _batch_normalization(t: Translation, node: OnnxNode) -> Edge:
    if node.attrs.get("training_mode", 0):
        raise refusal(node, "it takes the mean and variance of the batch. Export the network for inference")
    attrs = {"eps": node.attrs.get("epsilon", 1e-5), "momentum": node.attrs.get("momentum", 0.9), "fix_gamma": False}
    gamma, beta = _scale_and_shift(t, node)
    # training changes a mean and a variance: exporters that write equal values once would have it change other layers too
    statistics = [t.parameter(node.inputs[position], t.constant(node, position), own=True) for position in (3, 4)]
    return t.put(node, "BatchNorm", attrs, t.edge(node.inputs[0]), gamma, beta, *statistics)


def _normalization(op: str) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        axis = node.attrs.get("axis", -1)
        if op == "LayerNorm" and (axis not in (-1, t.rank(node) - 1) or not node.reads(2)):
            raise refusal(node, "it is known only with a bias, and over the last axis")
        return t.put(node, op, {"eps": node.attrs.get("epsilon", 1e-5)}, t.edge(node.inputs[0]), *_scale_and_shift(t, node))
    return translate


def _scale_and_shift(t: Translation, node: OnnxNode) -> list[Edge]:
    """Gamma and beta of a normalization; an error where they are no parameters but inputs of the file."""
    for position in (1, 2):
        t.constant(node, position)
    return [t.edge(node.inputs[1]), t.edge(node.inputs[2])]


def _slopes(t: Translation, node: OnnxNode) -> Edge:
    slope = t.parameter(node.inputs[1], t.constant(node, 1).reshape(-1))
    return t.put(node, "LeakyReLU", {"act_type": "prelu"}, t.edge(node.inputs[0]), slope)


def _gather(t: Translation, node: OnnxNode) -> Edge:
    axis = int(node.attrs.get("axis", 0))
    if t.is_constant(node.inputs[0]) and axis == 0:
        return t.put(node, "take", {"axis": 0, "mode": "wrap"}, t.edge(node.inputs[0]), t.edge(node.inputs[1]))
    index = t.constant(node, 1)
    if index.ndim:
        raise refusal(node, "more than one index is read")
    one = t.put(node, "slice_axis", shaping.between(axis, int(index), int(index) + 1), t.edge(node.inputs[0]), part="_slice")
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
    if len(shape) != rank + 2 or node.op == "ConvTranspose" or any(
            size < 0 and step > 1 for size, step in zip(shape[2:], stride, strict=True)):
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
        biased = _with_bias(t, node) if op == "add" else None
        if biased:
            return biased
        for position, name in ((1, scalar), (0, turned)):
            value, other = node.inputs[position], node.inputs[1 - position]
            if t.is_constant(value) and not t.is_constant(other):
                array = t.constant(node, position)
                if array.size == 1 and array.ndim <= max(1, len(t.shape(other))):
                    return t.put(node, name, {"scalar": float(array.reshape(()))}, t.edge(other))
        if op == "add" and not any(map(t.is_constant, node.inputs)):
            shape = t.shape(node.inputs[0])
            if shape == t.shape(node.inputs[1]) and UNKNOWN not in shape:
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


def _reduction(op: str, **more: Any) -> Operator:
    def translate(t: Translation, node: OnnxNode) -> Edge:
        axes = shaping.axes_of(t, node)
        if not axes and node.attrs.get("noop_with_empty_axes", 0):
            return t.edge(node.inputs[0])
        attrs = {"axis": axes, "keepdims": bool(node.attrs.get("keepdims", 1)), **more}
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
    "Flatten": shaping.flatten, "Reshape": shaping.reshape, "Squeeze": shaping.squeeze, "Unsqueeze": shaping.unsqueeze,
    "Transpose": shaping.transpose, "Concat": shaping.concat, "Slice": shaping.slicing, "Split": shaping.split,
    "ReduceMean": _reduction("mean"), "ReduceSum": _reduction("sum"), "ReduceMax": _reduction("max"),
    "ReduceMin": _reduction("min"), "ReduceL2": _reduction("norm", ord=2),
}
