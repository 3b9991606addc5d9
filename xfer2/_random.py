"""One ``random_state`` in, independent child seeds out, so that no stage's draws depend on another's."""

from __future__ import annotations

import numbers
import zlib
from typing import Any

import numpy as np

from xfer2._validation import parameter_error


def root_seed(owner: str, random_state: Any) -> int:
    """Turn scikit-learn's ``random_state`` (None, int, RandomState, Generator) into one integer seed."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, numbers.Integral) and not isinstance(random_state, bool) and int(random_state) >= 0:
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    raise parameter_error(owner, "random_state", "None, an integer of at least 0, a RandomState or a Generator",
                          random_state)


def child_seed(seed: int, purpose: str) -> int:
    """The seed of one named stage: the same for the same root and purpose, unrelated between purposes.

    Examples
    --------
    >>> child_seed(0, "shuffle") == child_seed(0, "shuffle")
    True
    """
    return int(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1)[0] % (2**31 - 1))
