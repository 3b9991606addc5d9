"""Records of CIFAR as arrays, and as SqueezeNet's input; what the benchmarks share."""

import io

import numpy as np


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


def squeezenet_input(images):
    """Images (n, h, w, 3) resized to 227x227, scaled and normalised: float32 (n, 3, 227, 227)."""
    from PIL import Image

    batch = np.empty((len(images), 3, 227, 227), np.float32)
    for row, image in enumerate(images):
        pixels = np.asarray(Image.fromarray(image).resize((227, 227), Image.Resampling.BILINEAR))
        batch[row] = ((pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
    return batch
