"""What an engine is: a network with named outputs and a batch in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from xfer2.model_handler.network import Network


class Engine(Protocol):
    """Computes the outputs of one network.

    An engine is made for a network that is pruned to the outputs wanted, and is called batch after batch.
    """

    name: str

    def __call__(self, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs.

        Parameters
        ----------
        batch : mapping of str to numpy.ndarray
            float32, one array (n, ...) per data input.

        Returns
        -------
        list of numpy.ndarray
            One array (n, ...) per output of the network's graph, in its order. They are the engine's: the second call
            after this one may write over them, so that one batch can be stored while the next is computed.
        """
        ...


EngineFactory = Callable[[Network], Engine]
