"""Symbols of MXNet's NumPy interface (``mx.np``, ``mx.npx``; MXNet 1.6 and later), said by the classic operators.

MXNet writes its layers by one name in both interfaces; arithmetic, reductions and shapes have names of their own in each.
Here they get the classic ones, which edits, methods and ONNX go by. What has no classic counterpart stays, and is computed;
so does what reads booleans or whole numbers, of which the classic operators make other types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from xfer2.model_handler.graph import operators
from xfer2.model_handler.graph.model import Graph, Node

Attrs = Mapping[str, str]
Rule = Callable[[str, Attrs], tuple[str, Attrs] | None]

_MARK = "is_np_shape"  # attribute of a whole graph: sizes of 0 are sizes, and -1 is what is not known
_SHAPE = "__shape__"
_SAME = {
    "_npi_add": "broadcast_add", "_npi_subtract": "broadcast_sub", "_npi_multiply": "broadcast_mul",
    "_npi_true_divide": "broadcast_div", "_npi_power": "broadcast_power", "_npx_relu": "relu", "_npx_sigmoid": "sigmoid",
    "_npi_absolute": "abs", "_np_copy": "_copy", "_np_squeeze": "squeeze",
    **{f"_npi_{name}": name for name in ("exp", "log", "sqrt", "square", "tanh", "sin", "cos", "negative", "reciprocal",
                                         "sign", "floor", "ceil", "log1p", "expm1", "arctan")}}
_SCALAR = {"_npi_add_scalar": "_plus_scalar", "_npi_subtract_scalar": "_minus_scalar", "_npi_multiply_scalar": "_mul_scalar",
           "_npi_rsubtract_scalar": "_rminus_scalar", "_npi_true_divide_scalar": "_div_scalar",
           "_npi_rtrue_divide_scalar": "_rdiv_scalar", "_npi_power_scalar": "_power_scalar",
           "_npi_rpower_scalar": "_rpower_scalar"}
_REDUCTION = {"_npi_mean": "mean", "_np_sum": "sum", "_np_max": "max", "_np_min": "min"}
_RESHAPE_CODES = {-1: -1, -2: 0, -4: -2, -5: -3, -6: -4}  # of npx.reshape, and what the classic one calls them
_OF_FLOATS = operators.WEIGHTED | operators.BATCH_NORMS | {  # whatever they read
    "Embedding", "LayerNorm", "GroupNorm", "InstanceNorm", "RNN", "Cast", "amp_cast"}
_NOT_FLOATS = re.compile(r"^(_np\w?_|broadcast_|_)?(not_)?(equal|greater|less|lesser|isnan|isinf|isfinite|is\w+inf|logical|"
                         r"bitwise|argmax|argmin|argsort|all|any|nonzero|shape_array|size_array|topk)")


def to_classic(graph: Graph) -> Graph:
    """The same graph by classic operators, names kept; one that was written by them comes back as it is."""
    if _MARK not in graph.attrs and not any((node.op or "").startswith("_np") for node in graph.nodes):
        return graph
    floats = _float_nodes(graph)
    nodes: dict[str, Node] = {}
    for node in reversed(graph.nodes):  # a reduction over all axes asks what its readers have become
        readers = [nodes[user] for user, _ in graph.consumers[node.name]]
        readable = all(edge.node in floats for edge in node.inputs)
        nodes[node.name] = _translated(node, readers) if node.is_variable or readable else node
    attrs = {key: value for key, value in graph.attrs.items() if key != _MARK}
    return Graph(tuple(nodes[node.name] for node in graph.nodes), graph.outputs, attrs)


def _float_nodes(graph: Graph) -> set[str]:
    """What is known to be of single precision: the only type that both interfaces treat alike."""
    found = set[str]()
    for node in graph.nodes:
        if node.attrs.get("dtype", "None") not in ("None", "float32") or node.attrs.get("__dtype__", "0") not in ("0", "-1"):
            continue
        unlike = _NOT_FLOATS.match(node.op or "") or not all(edge.node in found for edge in node.inputs)
        if node.op in _OF_FLOATS or not unlike:
            found.add(node.name)
    return found


def _translated(node: Node, readers: list[Node]) -> Node:
    if node.is_variable:
        known = {_SHAPE: node.attrs[_SHAPE].replace("-1", "0")} if _SHAPE in node.attrs else {}
        return replace(node, attrs={**node.attrs, **known})
    rule = _RULES.get(node.op or "")
    found = rule and rule(node.op or "", node.attrs)
    if found and found[0] in _REDUCTION.values() and "axis" not in found[1] and not _broadcast(readers):
        return node
    return replace(node, op=found[0], attrs=found[1]) if found else node


def _broadcast(readers: list[Node]) -> bool:
    """Whether all readers take the vector of one figure, which classic reductions give, for a figure without axes."""
    taken = set(_SAME.values()) | set(_SCALAR.values())
    return bool(readers) and all(reader.op in taken for reader in readers)


def _same(op: str, attrs: Attrs) -> tuple[str, Attrs]:
    return _SAME[op], attrs


def _with_scalar(op: str, attrs: Attrs) -> tuple[str, Attrs]:
    return _SCALAR[op], {key: value for key, value in attrs.items() if key != "is_int"}


def _reduction(op: str, attrs: Attrs) -> tuple[str, Attrs] | None:
    given = {key: value for key, value in attrs.items() if value != "None"}
    none = given.get("axis") == "()"  # which the classic one takes for all of them
    return (_REDUCTION[op], given) if set(given) <= {"axis", "keepdims"} and not none else None


def _concatenate(op: str, attrs: Attrs) -> tuple[str, Attrs] | None:
    axis = attrs.get("axis", "0")
    return None if axis == "None" else ("Concat", {"dim": axis, "num_args": attrs["num_args"]})


def _transpose(op: str, attrs: Attrs) -> tuple[str, Attrs]:
    axes = _numbers(attrs.get("axes", ""))
    return "transpose", {"axes": str(tuple(axis % len(axes) for axis in axes))} if axes else {}


def _reshape(op: str, attrs: Attrs) -> tuple[str, Attrs] | None:
    sizes = _numbers(attrs["newshape"])
    codes = _RESHAPE_CODES if op == "_npx_reshape" else {-1: -1}
    if attrs.get("order", "C") != "C" or any(size < 1 and size not in codes for size in sizes):
        return None
    reverse = {"reverse": attrs["reverse"]} if "reverse" in attrs else {}
    return "Reshape", {"shape": str(tuple(codes.get(size, size) for size in sizes)), **reverse}


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_SAME, _same), **dict.fromkeys(_SCALAR, _with_scalar), **dict.fromkeys(_REDUCTION, _reduction),
    "_npi_concatenate": _concatenate, "_np_transpose": _transpose,
    **dict.fromkeys(("_npx_reshape", "_np_reshape", "_npi_reshape"), _reshape)}
