"""What tells a run from others: settings as texts, the network, and sums over where it starts and what it learns from."""

from __future__ import annotations

import json
import numbers
import re
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from types import MethodType
from typing import Any

import numpy as np

from xfer2._mxnet import mx
from xfer2.model_handler.graph import codec

_BYTES_SUMMED = 1 << 24  # at once: inputs may lie on disk
_ADDRESS = re.compile(r" at 0x|c_void_p\(")  # in the text that Python gives an object


def run_identity(trainer: Any, seed: int, values: Mapping[str, np.ndarray], inputs: Sequence[Any], codes: np.ndarray,
             held_out: tuple[Sequence[Any], np.ndarray] | None) -> dict[str, Any]:
    """What tells a run of a `Trainer` from others: settings, and sums over where it starts and what it learns from."""
    settings = {name: getattr(trainer, name) for name in (
        "epochs", "batch_size", "learning_rate", "optimizer", "warm_up", "weight_decay", "rates",
        "label_smoothing", "mixup", "clip_gradient", "views", "patience", "average_last")}
    others = {name: _shortly(getattr(trainer, name)) for name in ("schedule", "augment", "loss", "penalty", "class_weights")}
    parameters = trainer.block.collect_params().values()
    found = {
        **settings, **others,
        "optimizer_params": {name: _shortly(value) for name, value in trainer.optimizer_params.items()},
        "steps": trainer.steps_per_epoch(codes), "graph": _graph_sum(trainer.block), "seed": seed,
        "moving parameters": [p.name for p in parameters if p.grad_req != "null"],
        "shapes": [[p.name, list(p.shape)] for p in parameters], "start": _sum(*values.values()),
        "examples": len(codes), "labels": _sum(codes), "inputs": _sum(*inputs),
        "validation data": None if held_out is None else _sum(held_out[1], *held_out[0])}
    return json.loads(json.dumps(found, default=str))  # as a file gives it back


def _graph_sum(block: Any) -> int:
    """Of what a block computes, once it has computed something; but for the versions by which MXNet counts tracings."""
    traced = getattr(block, "_cached_graph", ())
    if not traced:
        return 0
    graph = codec.decode(traced[1].tojson())
    said = [[node.name, node.op, sorted(node.attrs.items()), [edge[:2] for edge in node.inputs], node.subgraphs]
            for node in graph.nodes]
    return zlib.crc32(json.dumps([said, [edge[:2] for edge in graph.outputs]]).encode())


def _shortly(value: Any) -> str:
    """A setting as a text of readable length; what is longer ends in its sum."""
    text = _said(value)
    return text if len(text) <= 300 else f"{text[:200]}... {zlib.crc32(text.encode())}"


def _said(value: Any, met: dict[int, Any] | None = None) -> str:
    """A setting as a text that is the same in every process: objects by what they hold, not by the addresses they have."""
    if isinstance(value, str):
        return value if met is None else repr(value)
    if isinstance(value, mx.gluon.Parameter):
        value = None if value._data is None else value.list_data()[0]
    if isinstance(value, mx.nd.NDArray):
        value = value.asnumpy()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return _said(value.tolist(), met)
        return f"{value if value.size < 20 else f'{value.dtype} {value.shape}'} {zlib.crc32(value.tobytes())}"
    met = {} if met is None else met
    held, name = _held(value, met), getattr(value, "__qualname__", type(value).__qualname__)
    if held is None:
        return repr(value)
    if not isinstance(value, tuple):  # those of `items` are gone at once, and others get their addresses
        if id(value) in met:
            return f"{name} {met[id(value)][0]}"  # in a circle, or held twice
        met[id(value)] = len(met), value
    text = ", ".join(_said(one, met) for one in held)
    return f"({text})" if type(value) is tuple else f"[{text}]" if type(value) in (list, dict) else f"{name}[{text}]"


def _held(value: Any, met: dict[int, Any]) -> list[Any] | None:
    """What tells an object from others of its type, in the same order in every process; None where its repr does."""
    if isinstance(value, (list, tuple, deque)):
        return list(value)
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (set, frozenset)):
        return sorted(_said(type(one) if _ADDRESS.search(repr(one)) else one, dict(met)) for one in value)
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, type) or not (isinstance(value, (MethodType, mx.gluon.Block)) or is_dataclass(value)
                                       or _ADDRESS.search(repr(value))):
        return None
    if isinstance(value, MethodType):  # its owner may count and collect what it sees: only what is plain is a setting
        owner = value.__self__
        plain = sorted((one, held) for one, held in getattr(owner, "__dict__", {}).items()
                       if held is None or isinstance(held, (str, bool, numbers.Number)))
        return [value.__qualname__, *plain]
    told = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    slots = {one for names in told for one in ([names] if isinstance(names, str) else names) if not one.startswith("__")}
    names = slots | getattr(value, "__dict__", {}).keys()
    if isinstance(value, mx.gluon.Block):  # without what Gluon counts and keeps: names, tracings
        names -= vars(mx.gluon.HybridBlock(prefix="")).keys() - {"_children", "_reg_params"}
    return [(one, getattr(value, one)) for one in sorted(names) if hasattr(value, one)]


def _sum(*arrays: Any) -> int:
    """Of all values, read in parts."""
    total = 0
    for array in arrays:
        rows = max(1, _BYTES_SUMMED // max(1, np.asarray(array[:1]).nbytes))
        for start in range(0, len(array), rows):
            total = zlib.crc32(np.ascontiguousarray(array[start:start + rows]).tobytes(), total)
    return total
