"""Which of the parameters that a training passes through are kept."""

from __future__ import annotations

import math

import numpy as np


class Selection:
    """Takes the latest parameters that validation examples do not show to be worse than the best, if they beat the start.

    Worse is a mean loss more than a standard error above the least, that of the differences example by example. By few
    examples it is chance which epoch has the least loss, and mostly it is too early; by many, what is taken is near it.

    Parameters
    ----------
    losses : numpy.ndarray (n,)
        Of the validation examples at the start.

    References
    ----------
    Breiman, Friedman, Olshen and Stone 1984, Classification and Regression Trees, section 3.4.3 (the rule of one standard
    error).

    Examples
    --------
    >>> selection = Selection(np.array([2.0, 2.0]))
    >>> [selection.takes(np.array(losses)) for losses in ([1.0, 1.0], [0.8, 1.3], [1.1, 1.2], [2.0, 2.0])]
    [True, True, False, False]
    """

    def __init__(self, losses: np.ndarray) -> None:
        self.start = self.least = losses

    def takes(self, losses: np.ndarray) -> bool:
        """Whether the parameters with these losses (n,) are to be kept; call it after every epoch."""
        mean = float(losses.mean())
        if not mean < float(self.start.mean()):
            return False
        if mean < float(self.least.mean()):
            self.least = losses
            return True
        above = losses - self.least
        error = float(above.std(ddof=1)) / math.sqrt(len(above)) if len(above) > 1 else 0.0
        return float(above.mean()) <= error
