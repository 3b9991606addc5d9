"""Heads on SqueezeNet's features of CIFAR-10: time, accuracy, calibration, and whether they know what they do not know.

The first table is the original's task: `pool_final` of the first 1,024 test records, 512 to learn from and 512 to test
on, medians of three seeds. The second fits 5,000 rows of 512 columns, each head in a process of its own, and tries
conformal sets and abstaining on 5,000 test rows. The third has out-of-distribution scores of CIFAR-100's classes of
things that are neither animals nor vehicles nor people, and of MNIST's digits as photographs. ``make bench-heads`` runs
it; it needs ../shared.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import records
from records import read_records, squeezenet_input

UNLIKE = """
    orchid poppy rose sunflower tulip bottle bowl can cup plate apple mushroom orange pear sweet_pepper clock keyboard lamp
    telephone television bed chair couch table wardrobe bridge castle house road skyscraper cloud forest mountain plain sea
    maple_tree oak_tree palm_tree pine_tree willow_tree
"""
SEEDS = (0, 1, 2)


def heads():
    """Each head's class by its name in the table; imported here, so that a process has only what it measures."""
    from xfer2.heads.bayesian_nn import BayesianNeuralNetworkHead
    from xfer2.heads.gaussian_process import GaussianProcessHead
    from xfer2.heads.laplace import LaplaceHead
    from xfer2.heads.logistic_regression import LogisticRegressionHead
    from xfer2.heads.svm import SvmHead

    return {"LR": LogisticRegressionHead, "SVM": SvmHead, "GP": GaussianProcessHead, "BNN": BayesianNeuralNetworkHead,
            "Laplace": LaplaceHead}


def features_of(shared, images, layer):
    """Average-pooled features of a layer for images (n, h, w, 3), each resized to 227x227."""
    import xfer2

    parts = []
    for start in range(0, len(images), 512):
        batch = squeezenet_input(images[start:start + 512])
        features = xfer2.extract_features(str(shared / "models" / "squeezenet1.0-imagenet"), batch, layer, pool="avg")
        parts.append(features.flat(layer))
    return np.concatenate(parts).astype(float)


def quality(prediction, labels):
    """Accuracy, negative log-likelihood, expected calibration error."""
    from xfer2.uncertainty.calibration import expected_calibration_error, negative_log_likelihood

    return (float((prediction.labels == labels).mean()),
            negative_log_likelihood(labels, prediction.probabilities, prediction.classes),
            expected_calibration_error(labels, prediction.probabilities, prediction.classes))


def small_table(shared):
    images, labels = read_records(shared / "data" / "cifar10_test.rec", 1024)
    features = features_of(shared, images, "pool_final")
    print(f"512 training and 512 test images, {features.shape[1]} features, medians of {len(SEEDS)} seeds")
    print("head      fit s  accuracy    NLL    ECE")
    for name, make in heads().items():
        rows = []
        for seed in SEEDS:
            start = time.perf_counter()
            head = make(random_state=seed).fit(features[:512], labels[:512])
            seconds = time.perf_counter() - start
            rows.append((seconds, *quality(head.predict_uncertainty(features[512:]), labels[512:])))
        seconds, accuracy, loss, error = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:8s} {seconds:6.2f}  {accuracy:8.3f}  {loss:.3f}  {error:.3f}", flush=True)


def large_fit(name, folder):
    """Fit one head to the stored rows in this process, and say what it took."""
    stored = np.load(folder / "features.npz")
    start = time.perf_counter()
    head = heads()[name](random_state=0).fit(stored["train"], stored["train_labels"])
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count what the parent had when it forked
    peak = 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    print(json.dumps({"seconds": seconds, "peak": peak}), flush=True)
    predictions = {part: head.predict_uncertainty(stored[part]) for part in ("calibration", "test", "cifar100", "mnist")}
    print(json.dumps({**knowing(predictions, stored), "accuracy": quality(predictions["test"], stored["test_labels"])[0]}))


def knowing(predictions, stored):
    """Coverage of conformal sets, what abstaining spares, and AUROC of every out-of-distribution score."""
    from xfer2.uncertainty.conformal import ConformalSets, empirical_coverage, mean_set_size
    from xfer2.uncertainty.ood import MahalanobisDistance, NearestNeighbourDistance, auroc, out_of_distribution_scores
    from xfer2.uncertainty.selective import threshold_at_coverage

    test, truth = predictions["test"], stored["test_labels"]
    sets = {}
    for method in ("lac", "aps", "raps"):
        conformal = ConformalSets(0.9, method, random_state=0).fit(predictions["calibration"], stored["calibration_labels"])
        found = conformal.predict(test)
        sets[method] = (empirical_coverage(found, truth, test.classes), mean_set_size(found))
    wrong = test.labels != truth
    kept = test.entropy <= threshold_at_coverage(test.entropy, 0.8)
    classes = np.unique(stored["train_labels"], return_inverse=True)[1]
    distances = {"mahalanobis": MahalanobisDistance(), "nearest_neighbour": NearestNeighbourDistance()}
    scores = {}
    for distance in distances.values():
        distance.fit(stored["train"], classes)
    for part in ("test", "cifar100", "mnist"):
        far = {name: distance.score(stored[part]) for name, distance in distances.items()}
        scores[part] = out_of_distribution_scores(replace(predictions[part], distances=far))
    curves = {part: {name: auroc(scores["test"][name], values) for name, values in scores[part].items()}
              for part in ("cifar100", "mnist")}
    return {"sets": sets, "error": float(wrong.mean()), "error_kept": float(wrong[kept].mean()), "auroc": curves}


def large_tables(shared, folder):
    train, train_labels = read_records(shared / "data" / "cifar10_train.rec", 5000)
    test, test_labels = read_records(shared / "data" / "cifar10_test.rec", 10000)
    names = json.loads((shared / "data" / "cifar100_classes.json").read_text())
    others, _ = read_records(shared / "data" / "cifar100_test.rec", 2000, {names.index(name) for name in UNLIKE.split()})
    digits = np.repeat(np.load(shared / "data" / "mnist.npz")["test_x"][:2000, :, :, np.newaxis], 3, axis=3)
    features = features_of(shared, test, "fire9_concat")
    np.savez(folder / "features.npz", train=features_of(shared, train, "fire9_concat"), train_labels=train_labels,
             calibration=features[:5000], calibration_labels=test_labels[:5000], test=features[5000:],
             test_labels=test_labels[5000:], cifar100=features_of(shared, others, "fire9_concat"),
             mnist=features_of(shared, digits, "fire9_concat"))
    found = {}
    print(f"\n5,000 training rows of {features.shape[1]} columns, 5,000 test rows")
    print("head      fit s  peak GB  accuracy | 90% sets cover (mean size): LAC, APS, RAPS      | error, of the surest 80%")
    for name in heads():
        command = [sys.executable, __file__, "--shared", str(shared), "--scratch", str(folder), "--head", name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        cost, known = json.loads(output[-2]), json.loads(output[-1])
        found[name] = known
        sets = "   ".join(f"{coverage:.3f} ({size:.2f})" for coverage, size in known["sets"].values())
        print(f"{name:8s} {cost['seconds']:6.1f}  {cost['peak'] / 1e9:7.2f}  {known['accuracy']:8.3f} | {sets} | "
              f"{known['error']:.3f}, {known['error_kept']:.3f} ({known['error_kept'] / known['error'] - 1:+.0%})",
              flush=True)
    print("\nAUROC of out-of-distribution scores against the test rows: CIFAR-100 unlike / MNIST")
    for name, known in found.items():
        line = "  ".join(f"{score} {value:.3f}/{known['auroc']['mnist'][score]:.3f}"
                         for score, value in known["auroc"]["cifar100"].items())
        print(f"{name:8s} {line}", flush=True)


def main():
    parser = records.parser(__doc__)
    parser.add_argument("--scratch", type=Path, default=None, help="folder for the features (default: the system's)")
    parser.add_argument("--small", action="store_true", help="the first table only")
    parser.add_argument("--head", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.head:
        large_fit(arguments.head, arguments.scratch)
        return
    small_table(arguments.shared)
    if not arguments.small:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            large_tables(arguments.shared, Path(folder))


if __name__ == "__main__":
    main()
