"""Preparation of an image against a plain reference."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from xfer2 import Preprocessing
from xfer2.data.images import decode, from_array, prepare
from xfer2.exceptions import ImageError, ParameterError

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
RECORDS = [
    Preprocessing((3, 6, 5)),
    Preprocessing((3, 6, 5), color="BGR", scale=1 / 255, mean=MEAN, std=STD),
    Preprocessing((1, 6, 5), color="GRAY", scale=1 / 255, mean=(0.3,), std=(0.7,)),
    Preprocessing((3, 5, 6), resize_short=8, crop="center", scale=1 / 255, mean=MEAN, std=STD),
    Preprocessing((3, 5, 5), resize_short=5, crop="center", scale=2.0, mean=(10,), std=(3,)),
    Preprocessing((1, 7, 4), color="GRAY", resize_short=9, crop="center"),
]


def reference(image, record):
    """One pixel and one channel at a time, from what Pillow's resize gives."""
    channels, height, width = record.input_shape
    image = image.convert("L") if channels == 1 else image.convert("RGB")
    top = left = 0
    if record.resize_short is None:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    else:
        factor = record.resize_short / min(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)
        top, left = (image.height - height) // 2, (image.width - width) // 2
    result = np.empty((channels, height, width))
    for y in range(height):
        for x in range(width):
            pixel = np.atleast_1d(image.getpixel((left + x, top + y)))
            for channel in range(channels):
                source = channels - 1 - channel if record.color == "BGR" else channel
                mean = record.mean[channel if len(record.mean) > 1 else 0]
                std = record.std[channel if len(record.std) > 1 else 0]
                result[channel, y, x] = (pixel[source] * record.scale - mean) / std
    return result


def noise(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.color} {record.resize_short} {record.crop}")
@pytest.mark.parametrize("size", [(12, 17), (17, 12), (6, 5), (3, 40), (9, 9)])
def test_prepare_equals_the_reference(record, size):
    image = noise(*size)
    found = prepare(image, record)
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(found, reference(image, record), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_images_of_every_mode_become_three_channels(mode):
    image = noise(6, 5).convert(mode)
    np.testing.assert_allclose(prepare(image, RECORDS[0]), reference(image, RECORDS[0]), atol=1e-5)


def test_gray_arrays_with_and_without_a_channel_axis_are_the_same():
    pixels = np.arange(30, dtype=np.uint8).reshape(6, 5)
    record = Preprocessing((1, 6, 5), color="GRAY")
    np.testing.assert_array_equal(prepare(from_array(pixels), record)[0], pixels)
    np.testing.assert_array_equal(prepare(from_array(pixels[:, :, None]), record)[0], pixels)


def test_an_image_of_a_single_colour_keeps_it_through_resize():
    record = Preprocessing((3, 4, 4), color="BGR", resize_short=5, crop="center")
    found = prepare(Image.new("RGB", (31, 17), (10, 20, 30)), record)
    assert [np.unique(channel).tolist() for channel in found] == [[30.0], [20.0], [10.0]]


def test_bytes_and_files_decode_to_the_same(tmp_path):
    noise(6, 5).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(np.asarray(decode(content, "bytes")), np.asarray(decode(tmp_path / "a.png", "file")))


def test_images_of_16_bits_keep_their_shades():
    shades = np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000
    content = io.BytesIO()
    Image.fromarray(shades).save(content, "PNG")
    found = prepare(decode(content.getvalue(), "deep"), Preprocessing((1, 6, 5), color="GRAY"))
    np.testing.assert_array_equal(found[0], shades // 256)


@pytest.mark.parametrize("pixels", [np.int32, np.float32])
def test_images_of_32_bits_are_refused(pixels):
    content = io.BytesIO()
    Image.fromarray(np.arange(30, dtype=pixels).reshape(6, 5)).save(content, "TIFF")
    with pytest.raises(ImageError, match=r"The image deep has pixels of 32 bits, from 0(\.0)? to 29(\.0)?, .* 8 or 16 bits"):
        decode(content.getvalue(), "deep")


def test_a_portable_graymap_of_16_bits_keeps_its_shades():
    shades = np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000
    found = decode(b"P5 5 6 65535\n" + shades.astype(">u2").tobytes(), "deep")
    np.testing.assert_array_equal(np.asarray(found), shades // 256)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "stored"), [  # what a camera stores of an image that is seen as it is here
    (1, lambda pixels: pixels), (2, np.fliplr), (3, lambda pixels: np.rot90(pixels, 2)), (4, np.flipud),
    (5, lambda pixels: pixels.swapaxes(0, 1)), (6, np.rot90), (7, lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2)),
    (8, lambda pixels: np.rot90(pixels, -1))])
def test_photographs_are_seen_upright(kind, orientation, stored):
    seen = np.zeros((16, 32, 3), np.uint8)
    seen[:8, :8], seen[8:, 8:16] = 255, 128
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored(seen))).save(file, kind, exif=exif, **{"quality": 100} if kind == "JPEG" else
                                                             {"lossless": True} if kind == "WEBP" else {})
    found = np.asarray(decode(file.getvalue(), "photograph").convert("RGB"), int)
    assert found.shape == seen.shape
    assert np.abs(found - seen).max() < 8


@pytest.mark.parametrize("content", [b"MM\x00*\x00\x00", b"MMxx", b"nonsense"])
def test_an_orientation_that_cannot_be_read_is_none(content):
    file = io.BytesIO()
    noise(6, 5).save(file, "PNG", exif=content)
    np.testing.assert_array_equal(decode(file.getvalue(), "photograph"), noise(6, 5))


def test_a_truncated_png_is_named():
    content = io.BytesIO()
    noise(60, 50).save(content, "PNG")
    with pytest.raises(ImageError, match="The image number 7 cannot be decoded"):
        decode(content.getvalue()[:500], "number 7")


@pytest.mark.parametrize(("options", "message"), [
    ({"input_shape": (3, 4)}, "input_shape must be three positive integers"),
    ({"input_shape": (3, 0, 4)}, "input_shape must be three positive integers"),
    ({"input_shape": "3,4,4"}, "input_shape must be three positive integers"),
    ({"input_shape": (1, 4, 4)}, "input_shape must be of 3 channels where color is 'RGB'"),
    ({"color": "GRAY"}, "input_shape must be of 1 channels where color is 'GRAY'"),
    ({"color": "HSV"}, "color must be one of 'RGB', 'BGR', 'GRAY'; got 'HSV'"),
    ({"crop": "corner"}, "crop must be one of"),
    ({"crop": "center"}, "resize_short must be the short side"),
    ({"resize_short": 8}, "resize_short must be None, or at least"),
    ({"resize_short": 3, "crop": "center"}, "resize_short must be None, or at least"),
    ({"mean": (1, 2)}, "mean must be 1 or 3 finite numbers"), ({"mean": 0.5}, "mean must be 1 or 3 finite numbers"),
    ({"std": ("a",)}, "std must be 1 or 3 finite numbers"), ({"std": (1, 0, 1)}, "std must be above zero"),
    ({"scale": "1"}, "scale must be a finite number"), ({"scale": float("nan")}, "scale must be a finite number"),
    ({"mean": np.array([0.5, np.inf, 0])}, "mean must be 1 or 3 finite numbers"),
    ({"resize_short": "8", "crop": "center"}, "resize_short must be None, or at"),
])
def test_wrong_records_say_what_is_wrong(options, message):
    with pytest.raises(ParameterError, match=f"Preprocessing: {message}"):
        Preprocessing(**{"input_shape": (3, 4, 4), **options})


def test_numbers_of_numpy_are_numbers():
    plain = Preprocessing((3, 4, 5), resize_short=6, crop="center", scale=0.5, mean=(0.5, 0.25, 1), std=(2,))
    numpys = Preprocessing(np.array([3, 4, 5]), resize_short=np.int64(6), crop="center", scale=np.float32(0.5),
                           mean=np.array([0.5, 0.25, 1], np.float32), std=np.array([2]))
    assert numpys == plain
    assert numpys.to_json() == plain.to_json()


def test_a_record_survives_json():
    import json

    for record in RECORDS:
        assert Preprocessing.from_mapping(json.loads(record.to_json())) == record
    with pytest.raises(ParameterError, match=r"unknown key 'colour'.*color"):
        Preprocessing.from_mapping({"input_shape": [3, 4, 4], "colour": "RGB"})
    with pytest.raises(ParameterError, match="no 'input_shape'"):
        Preprocessing.from_mapping({"color": "RGB"})


def test_an_image_of_other_colours_becomes_red_green_and_blue():
    content = io.BytesIO()
    Image.new("LAB", (5, 6), (100, 0, 0)).save(content, "TIFF")
    for color in ("RGB", "GRAY"):
        record = Preprocessing((3 if color == "RGB" else 1, 6, 5), color=color)
        assert prepare(decode(content.getvalue(), "number 7"), record).max() > 0


@pytest.mark.parametrize("size", [(3000, 3), (3, 3001)])
def test_a_strip_is_cut_before_it_is_enlarged(size):
    record = Preprocessing((3, 30, 32), resize_short=40, crop="center")
    image = noise(*size)
    start = time.perf_counter()
    found = prepare(image, record)
    assert time.perf_counter() - start < 1
    np.testing.assert_allclose(found, reference(image, record), atol=1)
