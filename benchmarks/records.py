"""What the benchmarks share: where the data are, records of CIFAR as arrays, some images of each class."""

import io
from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared"


def read_records(path, count=None, labels=None):
    """The first `count` records (by default all) of the labels asked for: images (n, 32, 32, 3) uint8, and labels (n,)."""
    from PIL import Image

    from xfer2._mxnet import mx

    reader = mx.recordio.MXRecordIO(str(path), "r")
    images, found = [], []
    while count is None or len(images) < count:
        record = reader.read()
        if record is None:
            break
        header, content = mx.recordio.unpack(record)
        if labels is None or int(header.label) in labels:
            images.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
            found.append(int(header.label))
    reader.close()
    return np.stack(images), np.array(found)


def read_cifar100(shared, labels):
    """All images of some classes of CIFAR-100 and their labels, by part, train and test."""
    return {part: read_records(shared / "data" / f"cifar100_{part}.rec", labels=set(labels)) for part in ("train", "test")}


def draw(images, labels, shots, seed):
    """So many images of each class, and their labels."""
    random = np.random.default_rng(seed)
    rows = np.concatenate([random.choice(np.flatnonzero(labels == label), shots, replace=False)
                           for label in np.unique(labels)])
    return images[rows], labels[rows]


def squeezenet_input(images):
    """Images (n, h, w, 3) resized to 227x227, scaled and normalised: float32 (n, 3, 227, 227)."""
    from PIL import Image

    batch = np.empty((len(images), 3, 227, 227), np.float32)
    for row, image in enumerate(images):
        pixels = np.asarray(Image.fromarray(image).resize((227, 227), Image.Resampling.BILINEAR))
        batch[row] = ((pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
    return batch
