"""Every check of ``checks.py`` over every row of ``instances.py``."""

import inspect
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from common.checks import CHECKS
from common.instances import INSTANCES
from helpers import chain_symbol, with_values

from xfer2.model_handler.network import Network
from xfer2.repurposers._registry import METHODS


@pytest.fixture(scope="module")
def task():
    """Ninety small images of three classes that differ in the channel that is bright."""
    network = with_values(chain_symbol(), data=(3, 8, 8))
    random = np.random.default_rng(0)
    codes = np.tile(np.arange(3), 30)
    images = random.normal(0, 0.5, (90, 3, 8, 8)).astype("float32")
    images[np.arange(90), codes] += 2
    labels = np.array(["bee", "wasp", "ant"])[codes]
    kept = {}

    def fitted(row):
        if id(row) not in kept:
            kept[id(row)] = row.make(network).fit(images, labels)
        return kept[id(row)]

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        yield SimpleNamespace(network=network, images=images, codes=codes, labels=labels, fitted=fitted,
                              elsewhere=lambda *call: other.submit(*call).result(),
                              unbound=Network(network.graph, input_shapes=network.input_shapes))


def test_every_method_has_a_row():
    assert INSTANCES.keys() == METHODS.keys()


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", INSTANCES)
def test_contract(name, check, task, tmp_path, request):
    row = INSTANCES[name]
    if check.__name__ in row.expected_failures:
        request.applymarker(pytest.mark.xfail(reason=row.expected_failures[check.__name__], strict=True))
    more = {"tmp_path": tmp_path} if "tmp_path" in inspect.signature(check).parameters else {}
    check(row, task, **more)
