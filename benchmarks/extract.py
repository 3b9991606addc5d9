"""Features of three layers of SqueezeNet from 256 and 1,024 CIFAR-10 images: images a second and peak memory, by engine.

Two of the layers are large maps (conv1, fire5_concat), so that copying and storing costs as much as computing. Each size
runs in a process of its own, into a memory-mapped store; ONNX Runtime's start, the network written as ONNX and compared, is
in its time. ``make bench-extract`` runs it; it needs ../shared.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import records
from records import read_records, squeezenet_input

LAYERS = ["conv1", "fire5_concat", "pool_final"]
SIZES = (256, 1024)
ENGINES = ("mxnet", "onnxruntime")


def measure(shared, count, folder, engine):
    """Extract once to warm up on 64 images, then time all of them."""
    import xfer2

    source = str(shared / "models" / "squeezenet1.0-imagenet")
    images = squeezenet_input(read_records(shared / "data" / "cifar10_test.rec", count)[0])
    xfer2.extract_features(source, images[:64], LAYERS, store=str(folder / "warm"), engine=engine)
    start = time.perf_counter()
    features = xfer2.extract_features(source, images, LAYERS, store=str(folder / "features"), engine=engine)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"images": len(features), "seconds": seconds, "images_per_second": count / seconds, "peak_bytes": peak,
            "features_bytes": sum(features[layer].nbytes for layer in LAYERS)}


def main():
    parser = records.parser(__doc__)
    parser.add_argument("--scratch", type=Path, default=None, help="folder for the features (default: the system's)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each size; the median is printed")
    parser.add_argument("--images", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--engine", choices=ENGINES, default=None, help="one of them alone")
    arguments = parser.parse_args()
    if arguments.images:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            print(json.dumps(measure(arguments.shared, arguments.images, Path(folder), arguments.engine)))
        return
    for engine in [arguments.engine] if arguments.engine else ENGINES:
        rates = [rate(arguments, engine, count) for count in SIZES]
        print(f"{engine:11s} {SIZES[1]} images run at {rates[1] / rates[0]:.2f} times the rate of {SIZES[0]}", flush=True)


def rate(arguments, engine, count):
    """Print what some runs with an engine took, and give the median of their images a second."""
    command = [sys.executable, __file__, "--images", str(count), "--engine", engine, "--shared", str(arguments.shared)]
    command += ["--scratch", str(arguments.scratch)] if arguments.scratch else []
    runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
            for _ in range(arguments.runs)]
    runs.sort(key=lambda run: run["images_per_second"])
    middle = runs[len(runs) // 2]
    print(f"{engine:11s} {count:5d} images: {middle['images_per_second']:6.1f} images/s "
          f"({runs[0]['images_per_second']:.1f} to {runs[-1]['images_per_second']:.1f} in {len(runs)} runs), "
          f"features {middle['features_bytes'] / 1e9:.2f} GB, "
          f"peak memory {max(r['peak_bytes'] for r in runs) / 1e9:.2f} GB", flush=True)
    return middle["images_per_second"]


if __name__ == "__main__":
    main()
