"""Repurpose a network trained on MNIST to other handwritten digits, in three lines.

    python examples/three_line_repurpose.py                # scikit-learn's digits
    python examples/three_line_repurpose.py my_images/     # your images, in one folder a class

It learns from a tenth of the digits, about 18 of each; of your images, from all of them, and labels the first ten again.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import xfer2


def main():
    # The source may be any network: the prefix of a checkpoint of yours, a Gluon block, a Module.
    # Which of its layers' outputs the new classifier learns from is chosen on the data; feature_layer_names would say it.
    repurposer = xfer2.LrRepurposer("zoo:mnist-cnn")

    if len(sys.argv) > 1:
        folder = sys.argv[1]
        repurposer.repurpose(folder)  # labels are the names of the class folders
        print("classes:", *repurposer.classes_)
        prediction = repurposer.predict_uncertainty(folder)
        print(prediction.to_frame()[["id", "label", "confidence"]].head(10).to_string(index=False))
        return

    # The digits are 8x8 pixels from 0 to 16; make them 0 to 255, with a margin as MNIST's have.
    digits = load_digits()
    images = np.pad(digits.images * (255 / 16), [(0, 0), (2, 2), (2, 2)]).astype(np.uint8)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, train_size=0.1, stratify=digits.target, random_state=0)

    repurposer.repurpose(train_images, train_labels)
    print("predicted:", *repurposer.predict_label(test_images[:10]))
    print("true:     ", *test_labels[:10])
    print(f"accuracy on {len(test_images)} test images: {repurposer.score(test_images, test_labels):.3f}")


if __name__ == "__main__":
    main()
