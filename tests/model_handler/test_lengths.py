"""Lengths of sequences: what MXNet would follow beyond its arrays is refused before it does."""

import numpy as np
import pytest
from helpers import with_values

import xfer2
from xfer2._mxnet import mx
from xfer2.exceptions import DataError
from xfer2.features.engines.mxnet import MxnetEngine


def reshaped_and_cast(symbol):
    return mx.sym.identity(mx.sym.Cast(mx.sym.Reshape(symbol, shape=(-1,)), dtype="int32"))


@pytest.mark.parametrize(("kind", "bad", "bounds"), [
    ("SequenceReverse", [5, 7], "0 to 5"), ("SequenceLast", [5, 6], "1 to 5"), ("SequenceLast", [3, 0], "1 to 5"),
    ("SequenceLast", [2, 1.5], "1 to 5"), ("SequenceMask", [5, -1], "0 to 5"), ("SequenceMask", [0, 1e9], "0 to 5")])
@pytest.mark.parametrize("between", [mx.sym.identity, reshaped_and_cast])
def test_lengths_of_sequences_that_mxnet_would_follow_beyond_its_arrays_are_refused(kind, bad, bounds, between):
    steps = mx.sym.transpose(mx.sym.var("data"), axes=(1, 0, 2))
    layer = getattr(mx.sym, kind)(steps, between(mx.sym.var("long")), use_sequence_length=True, name="layer")
    engine = MxnetEngine(with_values(layer, data=(5, 3), long=()))
    values = np.ones((2, 5, 3), np.float32)
    with pytest.raises(DataError, match=rf"input 'long' .*'layer' \({kind}\): whole numbers from {bounds}, .*Row 1 of the"):
        engine({"data": values, "long": np.array(bad, np.float32)})
    assert len(engine({"data": values, "long": np.array([1, 5], np.float32)})) == 1


def test_lengths_along_the_second_axis_and_those_that_are_computed():
    data, long = mx.sym.var("data"), mx.sym.var("long")
    masked = mx.sym.SequenceMask(data, long, use_sequence_length=True, axis=1, name="masked")
    engine = MxnetEngine(with_values(masked, data=(4, 3), long=()))
    with pytest.raises(DataError, match="from 0 to 4"):
        engine({"data": np.ones((6, 4, 3), np.float32), "long": np.full(6, 5, np.float32)})
    half = mx.sym.SequenceMask(data, long / 2, use_sequence_length=True, axis=1, name="masked")
    found = MxnetEngine(with_values(half, data=(4, 3), long=()))(
        {"data": np.ones((2, 4, 3), np.float32), "long": np.array([8, 2], np.float32)})[0]
    assert found[..., 0].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def attention(scores=5):
    """A softmax over as many scores as each row is said to have, and a dense layer on it."""
    long = mx.sym.Cast(mx.sym.var("long"), dtype="int32")
    layer = mx.sym.softmax(mx.sym.var("data"), length=long, use_length=True, name="layer")
    return with_values(mx.sym.FullyConnected(layer, num_hidden=3, name="fc"), data=(scores,), long=())


def test_lengths_of_a_softmax():
    engine, values = MxnetEngine(xfer2.ModelHandler(attention()).truncate("layer").network), np.zeros((3, 5), np.float32)
    found = engine({"data": values, "long": np.array([5, 2, 0], np.float32)})[0]
    np.testing.assert_allclose(found, [[0.2] * 5, [0.5, 0.5, 0, 0, 0], [0] * 5])
    with pytest.raises(DataError, match=r"'layer' \(softmax\): whole numbers from 0 to 5"):
        engine({"data": values, "long": np.array([5, 6, 0], np.float32)})


def test_training_refuses_them_before_it_starts():
    data = {"data": np.zeros((20, 5), np.float32), "long": np.array([5] * 19 + [10**6])}
    repurposer = xfer2.NeuralNetworkRandomFreezeRepurposer(attention(), random_layers="*", num_epochs=1, validation=None)
    with pytest.raises(DataError, match=r"'layer' \(softmax\): .*Row 19 of the batch has \[1000000.0\]"):
        repurposer.fit(data, [0, 1] * 10)
    data["long"][-1] = 3
    assert repurposer.fit(data, [0, 1] * 10).predict(data).shape == (20,)
