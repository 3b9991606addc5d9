"""Predict, say how certain that is, and abstain where it is not certain enough.

    python examples/predict_and_abstain.py                # scikit-learn's digits
    python examples/predict_and_abstain.py my_images/     # your images, in one folder a class

Learns from part of the images, sets thresholds on a second part, and is tried on a third.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import xfer2
from xfer2.uncertainty.ood import out_of_distribution_scores
from xfer2.uncertainty.selective import threshold_at_risk


def load():
    if len(sys.argv) > 1:  # here images are 28x28, so that they are one array; a repurposer also takes the folder itself
        paths = sorted(path for path in Path(sys.argv[1]).glob("*/*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        return np.stack([Image.open(path).convert("L").resize((28, 28)) for path in paths]), [p.parent.name for p in paths]
    digits = load_digits()  # 8x8 pixels from 0 to 16; made 0 to 255, with a margin as MNIST's have
    return np.pad(digits.images * (255 / 16), [(0, 0), (2, 2), (2, 2)]).astype(np.uint8), digits.target


def main():
    images, labels = load()
    train_images, images, train_labels, labels = train_test_split(
        images, np.asarray(labels), train_size=0.15, stratify=labels, random_state=0)
    known_images, new_images, known_labels, new_labels = train_test_split(images, labels, test_size=0.5, random_state=0)
    repurposer = xfer2.LaplaceRepurposer("zoo:mnist-cnn", feature_layer_names=["dense0"], random_state=0)
    repurposer.repurpose(train_images, train_labels)
    known, new = (repurposer.predict_uncertainty(part) for part in (known_images, new_images))

    # 1. Sets of labels that hold the true one 19 times in 20.
    sets = xfer2.ConformalSets(coverage=0.95).fit(known, known_labels).label_sets(new)
    held = np.mean([label in found for label, found in zip(new_labels, sets, strict=True)])
    print(f"conformal sets: hold the true label for {held:.3f} of the images, mean size {np.mean(list(map(len, sets))):.2f}")

    # 2. Abstain where the entropy is above the threshold at which at most 3 in 100 answers are wrong.
    limit = threshold_at_risk(known.entropy, known.labels != known_labels, risk=0.03)
    wrong, answered = new.labels != new_labels, new.entropy <= limit
    print(f"error of all answers: {wrong.mean():.3f}")
    if answered.any():
        print(f"error where it answers ({answered.mean():.3f} of the images): {wrong[answered].mean():.3f}")

    # 3. Images that are no digits: each score is higher for noise with the pixel values of the test images.
    noise = np.random.default_rng(0).permuted(new_images.reshape(len(new_images), -1), axis=1).reshape(new_images.shape)
    scores, strange = (out_of_distribution_scores(p) for p in (new, repurposer.predict_uncertainty(noise)))
    for name, values in scores.items():
        print(f"median {name}: test images {np.median(values):.3f}, noise {np.median(strange[name]):.3f}")


if __name__ == "__main__":
    main()
