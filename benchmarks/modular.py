"""zoo:cifar10-cnn to ten CIFAR-100 classes, 10 to 200 images a class: networks that add, beside fine-tuning and scratch.

The first part says what an epoch of each costs beside a plain Gluon loop over its trainable part. The second compares
accuracy on the test images: from scratch, the best on validation of fine-tuning the top 1 to 6 layers, two towers, stitch
and PTU. Fine-tuning is the literature's, whose new layer reads the features alone; beside it is the default ("tune-below"),
all layers fine-tuned, which reads layers below them too. Every way has the same training and validation images (15%) and 40
epochs at most (two towers 8, whose batches count five times; scratch 100), and else its defaults. ``make bench-modular``
runs it; it needs ../shared. With ``--log FILE`` a run that was ended goes on where it was, if the code is the same.
"""

import statistics
import time

import numpy as np
import records
from records import draw, read_cifar100

SOURCE = "zoo:cifar10-cnn"
LABELS = range(10)  # the first ten names of CIFAR-100
SHOTS = (10, 25, 50, 100, 200)
LAYERS = ("conv0", "conv1", "conv2", "conv3", "dense0")
SEEDS = range(5)
MODULAR = ("two-tower", "stitch", "ptu")


def candidates(way, seed, **settings):
    """The repurposers among which the validation images choose, mostly one."""
    import xfer2

    settings = {"random_state": seed, "num_epochs": 40, **settings}
    if way == "scratch":
        return [xfer2.NeuralNetworkRandomFreezeRepurposer(SOURCE, random_layers="*", **{**settings, "num_epochs": 100})]
    if way == "fine-tune":
        return [xfer2.NeuralNetworkFineTuneRepurposer(
            SOURCE, "dropout", fixed_layers=LAYERS[:len(LAYERS) - trained], intermediate_layers=(), **settings)
            for trained in range(len(LAYERS) + 1)]
    if way == "tune-below":
        return [xfer2.NeuralNetworkFineTuneRepurposer(SOURCE, "dropout", **settings)]
    if way == "ptu":
        return [xfer2.PtuRepurposer(SOURCE, **settings)]
    if way == "stitch":
        return [xfer2.StitchRepurposer(SOURCE, **settings)]
    settings["num_epochs"] = -(-settings["num_epochs"] // 5)  # each batch counts five times
    return [xfer2.TwoTowerRepurposer(SOURCE, **settings)]


WAYS = ("scratch", "fine-tune", "tune-below", *MODULAR)


def epoch_seconds(way, images, labels):
    """Seconds of an epoch, and of a plain loop over what is trained, with as many batches of random numbers."""
    from xfer2._mxnet import mx
    from xfer2.model_handler import ModelHandler, params, targets
    from xfer2.model_handler.frozen import frontier

    repurposer = candidates(way, 0, validation=0, num_epochs=4 * (5 if way == "two-tower" else 1))[0]
    repurposer.fit(images, labels)
    seconds = statistics.median(line["seconds"] for line in repurposer.history_[1:])
    target = repurposer._make_target(ModelHandler(SOURCE), len(LABELS)).network
    upper = params.initialize(frontier(target).upper, seed=0)
    block = targets.to_training_block(upper)
    block.hybridize(static_alloc=True, static_shape=True)
    trainer = mx.gluon.Trainer(block.collect_params(), "adam", {"learning_rate": 1e-3})
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    size = min(repurposer.batch_size, len(images))
    arrays = [np.random.default_rng(0).random((len(images), *upper.input_shapes[name]), np.float32) for name in upper.inputs]
    found = []
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(getattr(repurposer, "repeats", 1)):
            for first in range(0, len(images), size):
                part = slice(first, first + size)
                with mx.autograd.record():
                    value = loss(block(*[mx.nd.array(array[part]) for array in arrays]), mx.nd.array(labels[part]))
                value.backward()
                trainer.step(len(value))
                value.sum().asscalar()
        found.append(time.perf_counter() - start)
    return seconds, statistics.median(found[1:])


def accuracy(task, way, shots, seed):
    """On the test images, of the candidate with the least validation loss, with its number and the seconds of all."""
    from xfer2.repurposers._examples import held_out_rows
    from xfer2.uncertainty.calibration import negative_log_likelihood

    images, labels = draw(*task["train"], shots, seed)
    held_out = held_out_rows(labels, 0.15, seed)
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    validation = images[held_out], labels[held_out]
    start, best = time.perf_counter(), None
    for number, repurposer in enumerate(candidates(way, seed, validation=validation), 1):
        repurposer.fit(images[rest], labels[rest])
        loss = negative_log_likelihood(validation[1], repurposer.predict_proba(validation[0]), repurposer.classes_)
        if best is None or loss < best[0]:
            best = loss, number, repurposer
    return {"way": way, "shots": shots, "seed": seed, "accuracy": best[2].score(*task["test"]), "chosen": best[1],
            "epochs": len(best[2].history_), "seconds": time.perf_counter() - start}


def show(found):
    """Print a table for every number of images, and the means."""
    for shots in SHOTS:
        print(f"\nAccuracy, {shots} images a class\nseed  " + "  ".join(f"{way:>10s}" for way in WAYS) + "  layers tuned")
        for seed in SEEDS:
            print(f"{seed:4d}  " + "  ".join(f"{found[way, shots, seed]['accuracy']:10.3f}" for way in WAYS)
                  + f"  {found['fine-tune', shots, seed]['chosen']:>12d}")
        means = {way: statistics.mean(found[way, shots, seed]["accuracy"] for seed in SEEDS) for way in WAYS}
        print("mean  " + "  ".join(f"{means[way]:10.4f}" for way in WAYS))
        gains = {way: 100 * (means[way] - means["fine-tune"]) for way in MODULAR}
        print("beyond fine-tuning, points: " + ", ".join(f"{way} {gain:+.1f}" for way, gain in gains.items())
              + f"; their mean {statistics.mean(gains.values()):+.1f}", flush=True)


def main():
    arguments = records.comparison_parser(__doc__).parse_args()
    task = read_cifar100(arguments.shared, LABELS)
    print("Seconds of an epoch over 600 images, and of a plain loop over the trainable part (bound 1.25 times)")
    for way in MODULAR:
        ours, alone = epoch_seconds(way, *draw(*task["train"], 60, 0))
        print(f"  {way:9s} {ours:.3f}  {alone:.3f}  {ours / alone:.2f} times", flush=True)
    keys = [(way, shots, seed) for shots in reversed(SHOTS) for seed in SEEDS for way in WAYS]  # the longest first
    show(records.compare(accuracy, task, ("way", "shots", "seed"), keys, arguments))


if __name__ == "__main__":
    main()
