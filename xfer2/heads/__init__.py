"""Classifiers on two-dimensional features: arrays in and out, scikit-learn estimators all."""

from xfer2._lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {})
