"""Figures are closed after each test, and drawn to memory only."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from xfer2 import Prediction

mpl.use("agg")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def given():
    """Axes that a user made."""
    return plt.figure(figsize=(4.2, 3.2), layout="constrained").add_subplot()


@pytest.fixture
def told():
    """Predictions of four rows: the second and the last are wrong where all are bees but the last, which is a wasp."""
    probabilities = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])
    return Prediction(probabilities, np.array(["bee", "fly", "wasp"]), ["a.png", "b.png", "c.png", "d.png"])


@pytest.fixture
def truth():
    return np.array(["bee", "bee", "bee", "wasp"])
