"""The examples run as a beginner runs them, on the digits and on a folder of images."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name, folder, *arguments):
    done = subprocess.run([sys.executable, str(EXAMPLES / name), *arguments], cwd=folder, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


@pytest.fixture(scope="module")
def digit_folder(tmp_path_factory):
    """Thirty PNGs of each of four digits, 24x24, in folders by name."""
    folder = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for label, name in enumerate(["zero", "one", "two", "three"]):
        (folder / name).mkdir()
        for count, pixels in enumerate(digits.images[digits.target == label][:30]):
            picture = np.pad(pixels * (255 / 16), 2).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
            Image.fromarray(picture).save(folder / name / f"{count:02}.png")
    return folder


def test_three_lines_on_the_digits(tmp_path):
    printed = run("three_line_repurpose.py", tmp_path)
    assert number(r"accuracy on 1618 test images: (\S+)", printed) > 0.95


def test_three_lines_on_a_folder(tmp_path, digit_folder):
    printed = run("three_line_repurpose.py", tmp_path, str(digit_folder))
    assert "classes: one three two zero" in printed
    rows = re.findall(r"(\w+)/\d\d\.png +(\w+) +\d\.\d+", printed)
    assert len(rows) == 10
    assert all(folder == label for folder, label in rows)


def test_features_of_the_digits_go_through_a_file(tmp_path):
    printed = run("features_to_parquet.py", tmp_path)
    frame = pd.read_parquet(tmp_path / "features.parquet")
    assert list(frame.columns[:2]) == ["id", "label"]
    assert list(frame.columns[2:]) == [f"pool0_{n}" for n in range(8)] + [f"dense0_{n}" for n in range(128)]
    assert (frame["label"] == load_digits().target).all()
    assert number(r"1797 rows, 136 features, accuracy in 5-fold cross-validation: (\S+)", printed) > 0.95


def test_features_of_a_folder_keep_its_names(tmp_path, digit_folder):
    printed = run("features_to_parquet.py", tmp_path, str(digit_folder))
    frame = pd.read_parquet(tmp_path / "features.parquet")
    assert frame["label"].value_counts().to_dict() == {"zero": 30, "one": 30, "two": 30, "three": 30}
    assert set(frame["id"].str.split("/").str[0]) == {"zero", "one", "two", "three"}
    assert number(r"cross-validation: (\S+)", printed) > 0.95


def test_abstaining_lowers_the_error_and_noise_stands_out(tmp_path):
    printed = run("predict_and_abstain.py", tmp_path)
    assert 0.92 < number(r"hold the true label for (\S+) of the images", printed) < 0.99
    error = number(r"error of all answers: (\S+)", printed)
    answered = re.search(r"error where it answers \((\S+) of the images\): (\S+)", printed)
    assert answered, printed
    assert error < 0.05
    assert float(answered[2]) < 0.6 * error
    assert 0.8 < float(answered[1]) < 1
    check_noise(printed)


def test_abstaining_on_a_folder(tmp_path, digit_folder):
    printed = run("predict_and_abstain.py", tmp_path, str(digit_folder))
    assert number(r"error of all answers: (\S+)", printed) < 0.1
    check_noise(printed)


def check_noise(printed):
    scores = re.findall(r"median (\w+): test images (\S+), noise (\S+)\n", printed)
    assert {"entropy", "mutual_information", "mahalanobis", "nearest_neighbour"} < {name for name, _, _ in scores}
    assert all(float(noise) > float(test) for _, test, noise in scores), printed
