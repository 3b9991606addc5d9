"""Random changes of prepared images that leave their class as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xfer2._mxnet import mx
from xfer2._validation import check_at_least_zero, check_integer
from xfer2.data.iterators import as_numpy
from xfer2.exceptions import DataError

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def augmented(augment: Augment, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What a function makes of examples (n, ...), checked: it may be a user's own."""
    changed = as_numpy(augment(images.copy(), random))  # it may work in place, and the batch come again
    if changed.shape[:1] != images.shape[:1] or changed.dtype.kind not in "fiub":
        raise DataError(f"augment must give numbers, one row an example; of {len(images)} examples it gave "
                        f"{changed.dtype} of shape {changed.shape}.")
    if not np.isfinite(changed).all():
        raise DataError(f"augment gave NaN or infinity for {len(images)} examples that had none.")
    return changed.astype(images.dtype, copy=False)


@dataclass(frozen=True)
class Augmentation:
    """Turns, zooms, shears, shifts, mirrors and colours prepared images (n, c, h, w), each of them by chance.

    Parameters
    ----------
    shift : int
        Pixels, at most, by which an image moves each way; its border is repeated around it ("random crop with padding").
    flip : bool
        Mirror left and right, every second image.
    color : float
        Brightness and contrast change by up to this fraction of the images' own spread.
    rotation : float
        Degrees, at most, by which an image is turned about its centre, each way.
    zoom : float
        Width and height, each on its own, are multiplied or divided by up to one plus this.
    shear : float
        Rows move sideways by up to this fraction of their distance from the centre.

    Examples
    --------
    >>> images = np.zeros((2, 3, 8, 8), np.float32)
    >>> Augmentation(shift=2, flip=True)(images, np.random.default_rng(0)).shape
    (2, 3, 8, 8)
    """

    shift: int = 0
    flip: bool = False
    color: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_integer(owner, "shift", self.shift, minimum=0)
        for name in ("color", "rotation", "zoom", "shear"):
            check_at_least_zero(owner, name, getattr(self, name))

    def __call__(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Changed copies of images (n, c, h, w)."""
        if images.ndim != 4:
            raise DataError("Augmentation is for images (n, channels, height, width); these data have shape "
                            f"{images.shape}.")
        if self.rotation or self.zoom or self.shear:
            images = _bent(images, self.rotation, self.zoom, self.shear, random)
        if self.shift:
            images = _shifted(images, self.shift, random)
        if self.flip:
            images = np.where(random.random(len(images))[:, None, None, None] < 0.5, images[..., ::-1], images)
        if self.color:
            images = _coloured(images, self.color, random)
        return np.ascontiguousarray(images)


def _bent(images: np.ndarray, rotation: float, zoom: float, shear: float, random: np.random.Generator) -> np.ndarray:
    """Turned, zoomed and sheared about their centres; beyond its border an image goes on as it ends."""
    count, (height, width) = len(images), images.shape[2:]
    turn = np.radians(random.uniform(-rotation, rotation, count))
    slant = random.uniform(-shear, shear, count)
    across, down = np.exp(random.uniform(-np.log1p(zoom), np.log1p(zoom), (2, count)))
    # Where in the old image, from its centre, a place of the new one is read; both reach from -1 to 1 either way.
    cosine, sine, ratio, zero = np.cos(turn), np.sin(turn), height / width, np.zeros(count)
    places = np.stack([across * cosine, across * (slant * cosine - sine) * ratio, zero,
                       down * sine / ratio, down * (slant * sine + cosine), zero], axis=1)
    grid = mx.nd.GridGenerator(mx.nd.array(places), transform_type="affine", target_shape=(height, width))
    return mx.nd.BilinearSampler(mx.nd.array(images), grid.clip(-1, 1)).asnumpy().astype(images.dtype, copy=False)


def _shifted(images: np.ndarray, reach: int, random: np.random.Generator) -> np.ndarray:
    height, width = images.shape[2:]
    padded = np.pad(images, [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))  # type: ignore[call-overload]
    down, right = random.integers(0, 2 * reach + 1, (2, len(images)))
    return windows[np.arange(len(images)), :, down, right]


def _coloured(images: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    mean = images.mean(axis=(2, 3), keepdims=True)
    spread = images.std(axis=(1, 2, 3), keepdims=True)
    contrast, brightness = random.uniform(-strength, strength, (2, len(images), 1, 1, 1))
    return (mean + (images - mean) * (1 + contrast) + brightness * spread).astype(images.dtype)
