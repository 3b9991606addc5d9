"""Small problems with known answers, and an interruption, for the tests of heads."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from xfer2._progress import Progress
from xfer2._scaling import standardisation


def clusters(rows, columns, classes, seed=0, apart=3.0):
    """Rows (n, d) around one centre a class, and their classes (n,); the larger `apart`, the easier."""
    random = np.random.default_rng(seed)
    codes = np.arange(rows) % classes
    centres = np.random.default_rng(1000 + seed).normal(size=(classes, columns))
    return apart * centres[codes] + random.normal(size=(rows, columns)), codes


class Standardiser(TransformerMixin, BaseEstimator):
    """What heads do to features first, as a step of a pipeline: learned from the rows that the pipeline is fitted to."""

    def fit(self, X, y=None):
        self.mean_, self.scale_ = standardisation(X)
        return self

    def transform(self, X):
        return (X - self.mean_) / self.scale_


def interrupt_after(monkeypatch, steps):
    """Press Ctrl-C during the step after so many, once."""
    done = []

    def step(self, state=""):
        done.append(state)
        if len(done) == steps + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "step", step)
    return done
