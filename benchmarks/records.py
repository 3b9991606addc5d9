"""What the benchmarks share: arguments, comparisons in processes, records of CIFAR as arrays, some images of each class."""

import argparse
import io
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared"


def parser(doc):
    """Of a benchmark's arguments, ``--shared`` among them: a folder that is there."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--shared", type=_folder, default=str(SHARED))
    return made


def comparison_parser(doc):
    """Of the arguments of a benchmark of hours."""
    made = parser(doc)
    made.add_argument("--log", type=Path, help="keeps what was found, one line each; taken up where it is there")
    made.add_argument("--workers", type=int, default=2, help="processes of the comparison")
    return made


def _folder(text):
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(text)!r}")
    return Path(text)


def processes(workers):
    """So many processes, to each its share of the processors; none of them has loaded anything."""
    os.environ.update(OMP_NUM_THREADS=str(max(1, (os.cpu_count() or 1) // workers)))
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def compare(function, task, names, keys, arguments):
    """What a function of a task and a key finds, by key: a dict each, which has the key's parts under `names` too."""
    log = arguments.log
    lines = log.read_text().splitlines() if log and log.exists() else []
    done = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be torn
    found = {tuple(one[name] for name in names): one for one in done}
    with processes(arguments.workers) as pool:
        for future in as_completed([pool.submit(function, task, *key) for key in keys if key not in found]):
            one = future.result()
            found[tuple(one[name] for name in names)] = one
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(one) + "\n")
    return found


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
