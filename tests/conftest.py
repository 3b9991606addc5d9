"""Fixtures of all tests: fixed seeds, no network, and the shared data where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from xfer2._mxnet import mx

SHARED = Path(os.environ.get("XFER2_SHARED", Path(__file__).resolve().parent.parent.parent / "shared"))


@pytest.fixture(autouse=True)
def _fixed_seeds():
    """Every test starts from the same state of every generator, whatever ran before."""
    np.random.seed(0)  # noqa: NPY002 - MXNet and gluoncv draw from it
    mx.random.seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Nothing may be fetched: a connection beyond this machine is an error."""
    import socket

    def refuse(self, address):
        raise AssertionError(f"a test tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def shared():
    """The folder of real data and networks; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}")
    return SHARED
