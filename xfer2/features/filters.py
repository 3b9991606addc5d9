"""Inputs that maximally activate a layer's channels: what a filter looks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xfer2._mxnet import Block, mx
from xfer2._random import root_seed
from xfer2._validation import check_at_least_zero, check_integer, check_positive, parameter_error
from xfer2.exceptions import ModelError
from xfer2.features.extractor import pruned
from xfer2.model_handler import params, sources, symbols, targets
from xfer2.model_handler.graph import edit
from xfer2.model_handler.network import Network

_OWNER = "maximise_activation"
_AT_ONCE = 32  # channels; as many pictures are one batch


def maximise_activation(source: Any, layer: str, channels: int | Iterable[int] | None = None, *, steps: int = 500,
                        rate: float = 0.01, radius: float = 1.0, smoothing: float = 0.0,
                        random_state: Any = 0) -> np.ndarray:
    """For some channels of a layer, the input that gradient ascent finds to activate each most.

    Every picture starts at the same smoothed noise x and takes steps ``x += rate * g / |g|``. g is the gradient of the mean
    of one channel's map (or of one unit of a dense layer) with respect to the input; |g| is its root mean square. Where g is
    zero, the picture stays as it is.

    Name the layer after an activation (``"relu0"``) for the filters of a convolution: the mean of a linear map has nearly
    the same gradient everywhere, and its picture is flat. But a unit that the noise does not activate has no gradient behind
    a ReLU; if its picture stays noise, name the layer before the activation, as for dense layers.

    Parameters
    ----------
    source : model
        Whatever `ModelHandler` reads: a Module, a Gluon block, a checkpoint prefix, ``"zoo:NAME"``, a ModelHandler. It has
        one input, of known shape.
    layer : str
        Its output has shape (n, channels, ...).
    channels : int or iterable of int, optional
        By default all.
    steps : int
    rate : float
        Root mean square of one step, in units of the network's input, that is after preprocessing.
    radius : float
        Standard deviation, in pixels, of the Gaussian that smooths the noise at the start; 0 smooths nothing.
    smoothing : float
        The same of a Gaussian that smooths each gradient; 0, the published method, smooths nothing. 1 shows more clearly
        what dense layers look for.
    random_state : int, Generator, RandomState or None
        Of the noise.

    Returns
    -------
    numpy.ndarray (number of channels, *input shape) of float32
        Network input; `plot_filters` shows it.

    Raises
    ------
    LayerNotFoundError
        The layer is not in the network; the message lists the nearest names.
    ParameterError
        The layer has no such channel, or a number is not what it must be.
    ModelError
        The layer needs several inputs or one of unknown shape, or its output is no map or vector of single examples.
    MissingParametersError
        The network has parameters without values.

    References
    ----------
    Anderson et al. 2016, arXiv:1611.01714, section 3.1: noise smoothed with radius 1, 500 steps of 0.01.
    The paper does not say which norm |g| is. With the Euclidean one, the steps together move a pixel of a 28x28 picture by
    0.18 at most (root mean square), less than the noise that it starts from. Smoothed gradients are beyond the paper:
    Yosinski et al. 2015, arXiv:1506.06579, blur the picture to the same end.

    Examples
    --------
    >>> from xfer2.features.filters import maximise_activation
    >>> maximise_activation("zoo:mnist-cnn", "relu1", [0, 5], steps=2).shape
    (2, 1, 28, 28)
    """
    if not isinstance(layer, str):
        raise parameter_error(_OWNER, "layer", "the name of one layer", layer)
    count, step = check_integer(_OWNER, "steps", steps, 0), check_positive(_OWNER, "rate", rate)
    widths = [check_at_least_zero(_OWNER, name, value) for name, value in (("radius", radius), ("smoothing", smoothing))]
    network = pruned(sources.read(source, _OWNER, "source"), (layer,))
    params.require_values(network, _OWNER)
    shape = _input_shape(network)
    chosen = _chosen(channels, _channel_count(network, layer))
    noise = np.random.default_rng(root_seed(_OWNER, random_state)).normal(size=(1, *shape))
    start = _smooth(noise, widths[0]).astype(np.float32)
    block = _block(network)
    parts = [_ascend(block, start, chosen[first:first + _AT_ONCE], count, step, widths[1])
             for first in range(0, len(chosen), _AT_ONCE)]
    return np.concatenate(parts)


def _block(network: Network) -> Block:
    """A block that computes while training what it predicts, and whose parameters have no gradients.

    In MXNet 1.9.1 the gradient of a max pooling that was recorded as prediction is wrong, and another in every run.
    """
    random = (node.name for node in network.graph.nodes if node.op in ("Dropout", "RNN"))
    graph = edit.set_attrs(network.graph, {name: {"p": "0"} for name in random})
    return targets.to_training_block(network.with_graph(graph, frozen=frozenset(graph.layer_names)))


def _ascend(block: Block, start: np.ndarray, channels: list[int], steps: int, rate: float, smoothing: float) -> np.ndarray:
    """Ascend for all these channels as one batch: examples do not mix, so the sum's gradient is each one's own."""
    images = np.repeat(start, len(channels), axis=0)
    own = mx.nd.array(channels)
    for _ in range(steps):
        gradient = _smooth(_gradient(block, images, own), smoothing)
        axes = tuple(range(1, gradient.ndim))
        largest = np.abs(gradient).max(axis=axes, keepdims=True)
        scaled = gradient / np.where(largest > 0, largest, 1)  # squares of small gradients would underflow
        size = np.sqrt(np.square(scaled).mean(axis=axes, keepdims=True))
        images += rate * scaled / np.where(size > 0, size, 1)
    return images


def _gradient(block: Block, images: np.ndarray, own: Any) -> np.ndarray:
    """Gradient of each image's own channel's mean activation, with respect to the image."""
    data = mx.nd.array(images)
    data.attach_grad()
    with mx.autograd.record():
        activation = block(data).reshape((0, 0, -1)).mean(axis=2)
        total = mx.nd.pick(activation, own).sum()
    total.backward()
    return data.grad.asnumpy()


def _smooth(images: np.ndarray, radius: float) -> np.ndarray:
    """Smooth along all axes but those of examples and channels."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, 0, *(radius,) * (images.ndim - 2))[:images.ndim]) if radius else images


def _input_shape(network: Network) -> tuple[int, ...]:
    if len(network.inputs) != 1:
        raise ModelError(f"{_OWNER} needs a layer that one input feeds; this one needs "
                         f"{', '.join(map(repr, network.inputs)) or 'none'}.")
    name = network.inputs[0]
    if name not in network.input_shapes:
        raise ModelError(f"{_OWNER} needs the shape of the input {name!r}. Give it once: handler = ModelHandler(model); "
                         f"handler.infer_shapes({name}=(3, 224, 224)); and hand over the handler.")
    return network.input_shapes[name]


def _channel_count(network: Network, layer: str) -> int:
    _, (shape,) = symbols.infer_shapes(network, batch_size=2)
    if shape is None or len(shape) < 2 or shape[0] != 2:
        raise ModelError(f"The layer {layer!r} gives {'an unknown shape' if shape is None else shape} for two examples; "
                         f"{_OWNER} needs (2, channels, ...).")
    return int(shape[1])


def _chosen(channels: int | Iterable[int] | None, count: int) -> list[int]:
    wanted = range(count) if channels is None else channels if isinstance(channels, Iterable) else [channels]
    chosen = [check_integer(_OWNER, "channels", channel, 0) for channel in wanted]
    wrong = [channel for channel in chosen if channel >= count]
    if wrong or not chosen:
        raise parameter_error(_OWNER, "channels", f"from 0 to {count - 1}", wrong[0] if wrong else channels)
    return chosen
