"""Random changes of prepared images that leave their class as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xfer2.exceptions import DataError


@dataclass(frozen=True)
class Augmentation:
    """Shifts, mirrors and colours images (n, c, h, w) after they were prepared for the network, each by chance.

    Parameters
    ----------
    shift : int
        Pixels, at most, by which an image moves each way; its border is repeated around it ("random crop with padding").
    flip : bool
        Mirror left and right, every second image.
    color : float
        Brightness and contrast change by up to this fraction of the images' own spread.

    Examples
    --------
    >>> images = np.zeros((2, 3, 8, 8), np.float32)
    >>> Augmentation(shift=2, flip=True)(images, np.random.default_rng(0)).shape
    (2, 3, 8, 8)
    """

    shift: int = 0
    flip: bool = False
    color: float = 0.0

    def __call__(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Changed copies of images (n, c, h, w)."""
        if images.ndim != 4:
            raise DataError("Augmentation is for images (n, channels, height, width); these data have shape "
                            f"{images.shape}.")
        if self.shift:
            images = _shifted(images, self.shift, random)
        if self.flip:
            images = np.where(random.random(len(images))[:, None, None, None] < 0.5, images[..., ::-1], images)
        if self.color:
            images = _coloured(images, self.color, random)
        return np.ascontiguousarray(images)


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
