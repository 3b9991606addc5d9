"""Write a network's features to a Parquet file, and train a scikit-learn Pipeline on the file.

    python examples/features_to_parquet.py                # scikit-learn's digits
    python examples/features_to_parquet.py my_images/     # your images, in one folder a class

Writes features.parquet where you are: a row an image; id, label, and a column a feature.
"""

import sys

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xfer2


def main():
    if len(sys.argv) > 1:
        data, labels = sys.argv[1], None  # labels are the names of the class folders
    else:
        # The digits are 8x8 pixels from 0 to 16; make them 0 to 255, with a margin as MNIST's have.
        digits = load_digits()
        data = np.pad(digits.images * (255 / 16), [(0, 0), (2, 2), (2, 2)]).astype(np.uint8)
        labels = digits.target

    # Two layers in one pass. pool="avg" reduces each map of pool0 to its mean: 8 numbers instead of 8x10x10.
    features = xfer2.extract_features("zoo:mnist-cnn", data, ["pool0", "dense0"], labels=labels, pool="avg")
    features.save("features.parquet")
    print(features)

    # From here on there is no xfer2: anything that reads Parquet can go on.
    frame = pd.read_parquet("features.parquet")
    X, y = frame.drop(columns=["id", "label"]), frame["label"]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    accuracy = cross_val_score(pipeline, X, y, cv=5)
    print(f"{len(frame)} rows, {X.shape[1]} features, accuracy in 5-fold cross-validation: {accuracy.mean():.3f}")


if __name__ == "__main__":
    main()
