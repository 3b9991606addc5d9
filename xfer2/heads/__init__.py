"""Classifiers on two-dimensional features: arrays in and out, scikit-learn estimators all."""
