"""Fine-tuning zoo:cifar10-resnet28 to ten CIFAR-100 classes, 50 images a class: what an epoch costs, what comes of it.

The first part trains the top two stages with and without the cache of the frozen part's outputs, and the top part alone as
a network of its own; the new layer reads the features alone there. The second compares, over five seeds, logistic
regression and fine-tuning with their defaults, and training the same network from scratch. ``make bench-train`` runs it; it
needs ../shared.
"""

import statistics
import time

import numpy as np
import records
from records import draw, read_cifar100

SOURCE = "zoo:cifar10-resnet28"
CLASSES = np.arange(10)  # the first ten names of CIFAR-100
FROZEN = ["stem", "stage1_*"]
LAST_FROZEN = "stage1_unit4_add"
SHOTS = 50
SEEDS = range(5)
WAYS = ("LR", "fine-tune", "scratch")


def epoch_seconds(history):
    """The median epoch; the first also plans memory."""
    return statistics.median(line["seconds"] for line in history[1:])


def tuned(images, labels, epochs, cache, **settings):
    import xfer2

    start = time.perf_counter()
    repurposer = xfer2.NeuralNetworkFineTuneRepurposer(SOURCE, "pool", intermediate_layers=(), fixed_layers=FROZEN,
                                                       num_epochs=epochs, cache=cache, validation=0, random_state=0,
                                                       **settings).fit(images, labels)
    return repurposer, time.perf_counter() - start


def top_alone(images, labels, epochs):
    """Epochs of the top two stages and a dense layer as a network of their own, trained from arrays of their input."""
    import xfer2
    from xfer2._mxnet import mx
    from xfer2.model_handler import targets
    from xfer2.training.loop import Trainer

    inputs = xfer2.extract_features(SOURCE, images, LAST_FROZEN)[LAST_FROZEN]
    handler = xfer2.ModelHandler(SOURCE).extract("pool", inputs=LAST_FROZEN)
    handler.add_layer_top(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=len(CLASSES), name="new"))
    block = targets.to_training_block(handler.reinitialize(seed=0).network)
    return Trainer(block, epochs=epochs, batch_size=64, random_state=0).fit(inputs, labels).history_


def cost(images, labels, epochs):
    """Print what epochs cost, and whether the weights are the same."""
    cached, cached_total = tuned(images, labels, epochs, "auto")
    whole, whole_total = tuned(images, labels, epochs, False)
    alone = epoch_seconds(top_alone(images, labels, epochs))
    with_cache, without = epoch_seconds(cached.history_), epoch_seconds(whole.history_)
    print(f"An epoch of {len(images)} images, median of {epochs - 1}, top two stages trained:")
    print(f"  top part alone   {alone:.3f} s")
    print(f"  with the cache   {with_cache:.3f} s, {with_cache / alone:.2f} times the top part alone (bound 1.15)")
    print(f"  without it       {without:.3f} s; with the cache {with_cache / without:.2f} times that (bound 0.33)")
    print(f"  {epochs} epochs and all around them: {cached_total:.1f} s with, {whole_total:.1f} s without")
    print(f"  largest difference of a weight with and without it: Adam {apart(cached, whole)}, as long a step where a "
          "gradient is next to nothing")
    momentum = {"optimizer": "sgd", "learning_rate": 0.01, "optimizer_params": {"momentum": 0.9}}
    cached, whole = (tuned(images, labels, epochs, cache, **momentum)[0] for cache in ("auto", False))
    print(f"    SGD with momentum {apart(cached, whole)}")


def apart(first, second):
    ours, theirs = first.network_.params, second.network_.params
    largest = max(float(np.abs(array.asnumpy()).max()) for array in ours.values())
    distance = max(float(np.abs(ours[name].asnumpy() - theirs[name].asnumpy()).max()) for name in ours)
    return f"{distance:.1e} (largest weight {largest:.1f})"


def accuracy(task, way, seed):
    """On the test images, of a way with its defaults; with the seconds of the fit, and what it says of itself."""
    import xfer2

    made = {
        "LR": lambda: xfer2.LrRepurposer(SOURCE, random_state=seed),
        "fine-tune": lambda: xfer2.NeuralNetworkFineTuneRepurposer(SOURCE, random_state=seed),
        "scratch": lambda: xfer2.NeuralNetworkRandomFreezeRepurposer(
            SOURCE, random_layers="*", num_epochs=100, patience=None, random_state=seed),
    }[way]()
    start = time.perf_counter()
    made.fit(*draw(*task["train"], SHOTS, seed))
    seconds = time.perf_counter() - start
    return {"way": way, "seed": seed, "accuracy": made.score(*task["test"]), "seconds": seconds,
            "said": getattr(made, "outcome_", "")}


def show(found, count):
    """Print accuracy seed by seed, and the means."""
    print(f"\nAccuracy on {count} test images; {SHOTS} training images of each of {len(CLASSES)} classes")
    print("seed  " + "  ".join(f"{way:>10s}" for way in WAYS) + "      seconds  what fine-tuning says")
    for seed in SEEDS:
        ways = [found[way, seed] for way in WAYS]
        seconds = "/".join(f"{one['seconds']:.0f}" for one in ways)
        print(f"{seed:4d}  " + "  ".join(f"{one['accuracy']:10.3f}" for one in ways)
              + f"  {seconds:>11s}  {found['fine-tune', seed]['said']}")
    print("mean  " + "  ".join(f"{statistics.mean(found[way, seed]['accuracy'] for seed in SEEDS):10.3f}" for way in WAYS))


def main():
    parser = records.comparison_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the first part, at least 2")
    arguments = parser.parse_args()
    task = read_cifar100(arguments.shared, CLASSES.tolist())
    cost(*draw(*task["train"], SHOTS, 0), arguments.epochs)
    keys = [(way, seed) for way in reversed(WAYS) for seed in SEEDS]  # the longest first
    show(records.compare(accuracy, task, ("way", "seed"), keys, arguments), len(task["test"][1]))


if __name__ == "__main__":
    main()
