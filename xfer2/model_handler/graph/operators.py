"""MXNet's operators: what each reads at which of its inputs, and kinds of them that several rooms ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xfer2.model_handler.graph.model import Edge, Node

ROW, LENGTH, LABEL = "row", "length", "label"
PARAMETERS = frozenset({"weight", "bias", "gamma", "beta", "moving_mean", "moving_var", "slope", "parameters"})

WEIGHTED = frozenset({"FullyConnected", "Convolution", "Convolution_v1", "Deconvolution"})
BATCH_NORMS = frozenset({"BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU"})
LOSS_OUTPUTS = frozenset({"SoftmaxOutput", "Softmax", "LinearRegressionOutput", "LogisticRegressionOutput",
                          "MAERegressionOutput", "SVMOutput"})
SOFTMAXES = frozenset({"softmax", "log_softmax", "SoftmaxActivation", "SoftmaxOutput", "Softmax"})
ANSWERS = LOSS_OUTPUTS | SOFTMAXES
ACTIVATIONS = frozenset({"Activation", "LeakyReLU", "relu", "sigmoid", "tanh", "clip"})
SUMS = frozenset({"elemwise_add", "_plus", "_Plus", "broadcast_add", "add_n", "ElementWiseSum"})
RESHAPES = frozenset({"Reshape", "reshape"})
SHAPING = RESHAPES | {"Flatten", "squeeze", "expand_dims", "transpose", "_copy", "identity", "Cast"}

_TABLE: tuple[tuple[Iterable[str], Mapping[int, str]], ...] = (
    (WEIGHTED, {1: "weight", 2: "bias"}),
    (("_contrib_DeformableConvolution",), {2: "weight", 3: "bias"}),
    (("_contrib_ModulatedDeformableConvolution",), {3: "weight", 4: "bias"}),
    (BATCH_NORMS, {1: "gamma", 2: "beta", 3: "moving_mean", 4: "moving_var"}),
    (("LayerNorm", "GroupNorm", "InstanceNorm"), {1: "gamma", 2: "beta"}),
    (("LeakyReLU",), {1: "slope"}),
    (("RNN",), {1: "parameters"}),
    (("Embedding",), {0: ROW, 1: "weight"}),
    (("one_hot",), {0: ROW}),
    (("take", "gather_nd"), {1: ROW}),
    (("SequenceLast", "SequenceMask", "SequenceReverse", "softmax"), {1: LENGTH}),
    (LOSS_OUTPUTS, {1: LABEL}))
_READS = {op: reads for ops, reads in _TABLE for op in ops}


def role(op: str | None, position: int) -> str | None:
    """What an operator reads at one of its inputs; None where that is data like any other.

    A parameter by the field's name for it (`PARAMETERS`, ``"parameters"`` being all of a fused recurrent layer's), a
    `LABEL`, the `ROW` of a table to look up, or the `LENGTH` of each sequence.
    """
    return _READS.get(op or "", {}).get(position)


def is_mean(node: Node) -> bool:
    """Whether a layer takes means."""
    return node.op in ("mean", "_contrib_AdaptiveAvgPooling2D") or node.attrs.get("pool_type") == "avg"


def input_of(node: Node, *roles: str) -> Edge | None:
    """What a layer reads in one of these roles; None where it reads no such thing."""
    return next((edge for position, edge in enumerate(node.inputs) if role(node.op, position) in roles), None)
