"""Images -> network input, as the network's preprocessing record says."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from xfer2.exceptions import DataError, ImageError
from xfer2.model_handler.network import Preprocessing

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_CHANNELS = frozenset({1, 3, 4})
_STRIP = 20  # how many times as long as wide
_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "PA", "I", "F"})
_UPRIGHT = dict(enumerate((
    Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90), 2))  # by EXIF orientation
_OF_16_BITS = frozenset({"PNG", "PPM"})  # formats whose pixels Pillow gives as 32 bits where they have 16


def decode(source: Path | bytes, name: str) -> Image.Image:
    """Decode one image file, or its bytes, completely, and turn it as its EXIF orientation says it is to be seen.

    Raises
    ------
    ImageError
        It is missing, no image, or cut short, or has pixels of 32 bits; the message gives `name`.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()  # the pixels stay when the file is closed
            known = image.mode in _MODES or image.mode.startswith("I;16")
            turn, kind = _UPRIGHT.get(_orientation(image)), image.format
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"The image {name} cannot be decoded: {error}") from error
    found: Image.Image = image if known else image.convert("RGB")
    found = found if turn is None else found.transpose(turn)
    if found.mode.startswith("I;16") or (found.mode == "I" and kind in _OF_16_BITS):
        return Image.fromarray((np.asarray(found) >> 8).astype(np.uint8))  # Pillow's own conversion cuts off at 255
    if found.mode in ("I", "F"):
        low, high = found.getextrema()
        raise ImageError(f"The image {name} has pixels of 32 bits, from {low} to {high}, and nothing says which of them is "
                         "white: save it with 8 or 16 bits a channel.")
    return found


def _orientation(image: Image.Image) -> int:
    """As cameras number them; 1, upright, where the image does not say, or what it says cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, ValueError, SyntaxError, struct.error):
        return 1


def is_pixels(array: np.ndarray) -> bool:
    """Whether an array is a batch of raw images and not network input: uint8, (n, h, w), or with 1, 3 or 4 channels last or
    first.
    """
    return array.dtype == np.uint8 and 0 not in array.shape[1:] and (array.ndim == 3 or (array.ndim == 4 and bool(
        _CHANNELS.intersection((array.shape[1], array.shape[3])))))


def from_array(pixels: np.ndarray) -> Image.Image:
    """An image from a uint8 array (h, w), (h, w, channels) or (channels, h, w)."""
    if pixels.ndim == 3 and pixels.shape[2] not in _CHANNELS:
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def prepare(image: Image.Image, record: Preprocessing) -> np.ndarray:
    """One image as network input.

    Returns
    -------
    numpy.ndarray
        float32, (channels, height, width), resized, cropped, scaled and normalised as `record` says.
    """
    channels, height, width = record.input_shape
    image = image.convert("L" if record.color == "GRAY" else "RGB")
    if record.crop == "center":
        image = _without_far_ends(image)
    if record.resize_short is None:
        size = (width, height)
    else:
        factor = record.resize_short / min(image.size)
        size = (max(width, round(image.width * factor)), max(height, round(image.height * factor)))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    if record.crop == "center":
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, dtype=np.float32).reshape(height, width, channels)
    if record.color == "BGR":
        pixels = pixels[:, :, ::-1]
    mean, std = np.asarray(record.mean, np.float32), np.asarray(record.std, np.float32)
    return np.ascontiguousarray(((pixels * np.float32(record.scale) - mean) / std).transpose(2, 0, 1))


def _without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of a strip, as much as a crop could need: all of one of 20,000 by 2 pixels would take gigabytes."""
    longest = _STRIP * min(image.size)
    across, down = (max(0, (size - longest) // 2) for size in image.size)
    return image.crop((across, down, image.width - across, image.height - down)) if across or down else image


def require_record(record: Preprocessing | None, what: str) -> Preprocessing:
    """The record, or the error that says how to give one."""
    if record is None:
        raise DataError(
            f"{what} must be prepared for the network, and nothing says how it was trained to see images. Save a "
            "PREFIX-preprocessing.json beside the checkpoint, or hand over a ModelHandler with "
            "handler.preprocessing = xfer2.Preprocessing(input_shape=(3, 224, 224), ...).")
    return record


