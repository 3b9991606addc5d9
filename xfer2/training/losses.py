"""What a network is trained towards: soft targets, mixed examples, weights of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xfer2._validation import check_class_weight, parameter_error


def soft_targets(codes: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
    """One row of class probabilities an example (n, k): 1 - s + s / k for its class and s / k for the others.

    References
    ----------
    Szegedy et al. 2016, arXiv:1512.00567, section 7.

    Examples
    --------
    >>> soft_targets(np.array([1]), 2, 0.2).tolist()
    [[0.1, 0.9]]
    """
    targets = np.full((len(codes), classes), smoothing / classes)
    targets[np.arange(len(codes)), codes] += 1 - smoothing
    return targets


def mix(arrays: Sequence[np.ndarray], targets: np.ndarray, alpha: float,
        random: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Every example averaged with another of the batch, inputs and targets alike, by a weight from Beta(alpha, alpha).

    References
    ----------
    Zhang et al. 2018, arXiv:1710.09412.
    """
    weight, partner = random.beta(alpha, alpha), random.permutation(len(targets))
    weight = max(weight, 1 - weight)
    return ([(weight * array + (1 - weight) * array[partner]).astype(array.dtype) for array in arrays],
            weight * targets + (1 - weight) * targets[partner])


def class_weights(owner: str, class_weight: Any, codes: np.ndarray, classes: Sequence[Any]) -> np.ndarray | None:
    """A weight for each class (k,), their mean over the examples 1; None where all are alike.

    Parameters
    ----------
    class_weight : dict of label to number, "balanced" or None
        ``"balanced"``: inversely as the class's examples; a class that a dict leaves out has 1.
    """
    if class_weight is None:
        return None
    counts = np.bincount(codes, minlength=len(classes))
    if isinstance(class_weight, dict):
        check_class_weight(owner, class_weight, classes)
        weights = np.array([float(class_weight.get(label, 1.0)) for label in classes])
    elif isinstance(class_weight, str) and class_weight == "balanced":
        weights = 1 / np.maximum(counts, 1)
    else:
        raise parameter_error(owner, "class_weight", "a dict of labels, 'balanced' or None", class_weight)
    return weights * len(codes) / (weights * counts).sum()
