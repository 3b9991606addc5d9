"""``xfer2 extract`` beside the library call, on 5,000 and 20,000 small images in class folders, to Parquet.

Each is a process of its own, timed as a whole: its start, the features of one layer, the file. ``make bench-cli`` runs
it; it needs ../shared.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import records
from PIL import Image
from records import read_records

MODEL, LAYER = "zoo:cifar10-resnet28", "pool"
SIZES = (5000, 20000)
LIBRARY = "import sys, xfer2; xfer2.extract_features(*sys.argv[1:4]).save(sys.argv[4])"
COMMAND = Path(sys.executable).parent / "xfer2"


def write_images(shared, count, folder):
    """Some of CIFAR-10's training images as PNG files, a folder a class."""
    images, labels = read_records(shared / "data" / "cifar10_train.rec", count)
    for label in np.unique(labels):
        (folder / str(label)).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / str(label) / f"{number:05d}.png")


def run(command):
    """Seconds and peak bytes of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def main():
    parser = records.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each; the fastest is printed")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in SIZES:
            folder = Path(scratch, str(count))
            write_images(arguments.shared, count, folder)
            calls = {"library": [sys.executable, "-c", LIBRARY, MODEL, folder, LAYER, f"{scratch}/library.parquet"],
                     "command": [COMMAND, "extract", MODEL, folder, "--layers", LAYER, "-q", "--overwrite",
                                 "-o", f"{scratch}/command.parquet"]}
            for name, call in calls.items():
                runs = [run(call) for _ in range(arguments.runs)]
                seconds, peak = min(runs)[0], max(bytes_ for _, bytes_ in runs)
                found[name, count] = seconds, peak
                print(f"{name} {count:6d} images: {count / seconds:7.1f} images/s, peak memory {peak / 1e6:.0f} MB",
                      flush=True)
    small, large = SIZES
    (library, _), (command, peak), (_, before) = (found[key] for key in (("library", large), ("command", large),
                                                                         ("command", small)))
    print(f"throughput of the command: {library / command:.2f} of the library's; memory at {large} images: "
          f"{peak / before:.2f} times that at {small}")


if __name__ == "__main__":
    main()
