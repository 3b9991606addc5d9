"""The training loop learns, repeats itself to the bit, and says when it fails."""

import logging
from itertools import chain

import numpy as np
import pytest

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, ParameterError, XferError
from xfer2.training.loop import Trainer

CENTRES = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 4.0]])


def separable(count=90):
    codes = np.arange(count) % 3
    return (CENTRES[codes] + np.random.default_rng(0).normal(0, 0.4, (count, 2))).astype("float32"), codes


def small_block(seed=0):
    mx.random.seed(seed)
    block = mx.gluon.nn.HybridSequential(prefix="net_")
    with block.name_scope():
        block.add(mx.gluon.nn.Dense(8, activation="relu", in_units=2), mx.gluon.nn.Dense(3, in_units=8))
    block.initialize(mx.init.Xavier())
    return block


def values(block):
    return {name: parameter.data().asnumpy() for name, parameter in block.collect_params().items()}


def check_same(first, second):
    for name, value in values(first).items():
        np.testing.assert_array_equal(value, values(second)[name])


def test_a_separable_task_is_learned():
    inputs, codes = separable()
    trainer = Trainer(small_block(), epochs=20, batch_size=30, learning_rate=0.05, random_state=0).fit(inputs, codes)
    assert [record["epoch"] for record in trainer.history_] == list(range(1, 21))
    assert trainer.history_[-1]["loss"] < 0.1 < trainer.history_[0]["loss"]
    assert trainer.history_[-1]["accuracy"] == 1
    predicted = trainer.block(mx.nd.array(inputs)).argmax(axis=1).asnumpy()
    assert predicted.tolist() == codes.tolist()


def test_the_first_step_is_gradient_descent_by_hand():
    inputs, codes = separable(9)
    block = mx.gluon.nn.Dense(3, in_units=2)
    block.initialize(mx.init.Xavier())
    before = values(block)
    weight, bias = (before[name].astype(float) for name in sorted(before, reverse=True))
    logits = inputs @ weight.T + bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = chances - np.eye(3)[codes]
    trainer = Trainer(block, epochs=1, batch_size=9, learning_rate=0.1, optimizer="sgd", random_state=0).fit(inputs, codes)
    np.testing.assert_allclose(block.weight.data().asnumpy(), weight - 0.1 * error.T @ inputs / 9, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(block.bias.data().asnumpy(), bias - 0.1 * error.mean(axis=0), rtol=1e-4, atol=1e-6)
    assert trainer.history_[0]["loss"] == pytest.approx(-np.log(chances[np.arange(9), codes]).mean(), rel=1e-5)
    assert trainer.history_[0]["accuracy"] == pytest.approx((logits.argmax(axis=1) == codes).mean())


def test_the_same_seed_gives_the_same_parameters_to_the_bit():
    inputs, codes = separable()
    blocks = [small_block(), small_block()]
    for number, block in enumerate(blocks):
        np.random.seed(number)  # noqa: NPY002  the global state must not matter
        Trainer(block, epochs=2, batch_size=20, random_state=4).fit(inputs, codes)
    check_same(*blocks)


def test_another_seed_orders_the_examples_otherwise():
    inputs, codes = separable()
    first, second = small_block(), small_block()
    for seed, block in enumerate((first, second)):
        Trainer(block, epochs=1, batch_size=7, random_state=seed).fit(inputs, codes)
    assert any((value != values(second)[name]).any() for name, value in values(first).items())


class Recorder(Trainer):
    """Notes the rows that each epoch trains on, and the learning rate of each step."""

    def __init__(self, block, **options):
        super().__init__(block, **options)
        self.rows, self.rates = [], []

    def prepare(self, batch):
        self.rows.append(batch[:, 0].astype(int).tolist())
        return batch

    def train_step(self, batch, targets):
        found = super().train_step(batch, targets)
        self.rates.append(self.optimizer_.learning_rate)
        return found


def test_each_epoch_sees_every_example_once_in_a_new_order():
    inputs = np.stack([np.arange(10), np.zeros(10)], axis=1).astype("float32")
    trainer = Recorder(small_block(), epochs=2, batch_size=4, random_state=0).fit(inputs, np.arange(10) % 3)
    assert [len(rows) for rows in trainer.rows] == [4, 4, 2] * 2
    epochs = list(chain(*trainer.rows[:3])), list(chain(*trainer.rows[3:]))
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    assert list(range(10)) not in epochs


def test_the_learning_rate_falls_along_half_a_cosine():
    trainer = Recorder(small_block(), epochs=4, batch_size=45, learning_rate=0.2, random_state=0).fit(*separable())
    expected = [0.1 * (1 + np.cos(np.pi * step / 8)) for step in range(8)]
    np.testing.assert_allclose(trainer.rates, expected, atol=1e-9)


def test_a_loss_that_diverges_names_the_step_and_the_rate():
    inputs, codes = separable()
    trainer = Trainer(small_block(), epochs=5, batch_size=30, learning_rate=1e30, optimizer="sgd", random_state=0)
    with pytest.raises(XferError, match=r"the loss is (nan|inf) at step \d of epoch \d.*learning_rate \(it is 1e\+30\)"):
        trainer.fit(inputs, codes)


def test_input_that_is_not_finite_is_found_at_its_step():
    inputs, codes = separable(9)
    inputs[:] = np.nan
    block = mx.gluon.nn.Dense(3, in_units=2)
    block.initialize()
    with pytest.raises(XferError, match="the loss is nan at step 1 of epoch 1"):
        Trainer(block, random_state=0).fit(inputs, codes)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_parameters_without_gradients_stay(optimizer):
    block = small_block()
    frozen = block[0].collect_params()
    frozen.setattr("grad_req", "null")
    before = values(block)
    Trainer(block, epochs=3, learning_rate=0.1, optimizer=optimizer, weight_decay=0.1, random_state=0).fit(*separable())
    after = values(block)
    for name in before:
        assert (after[name] == before[name]).all() == (name in frozen), name


def test_weight_decay_shrinks_the_weights():
    sizes = []
    for decay in (0.0, 0.5):
        block = small_block()
        Trainer(block, epochs=20, learning_rate=0.05, optimizer="sgd", weight_decay=decay, random_state=0).fit(*separable())
        sizes.append(sum(float((value ** 2).sum()) for name, value in values(block).items() if name.endswith("weight")))
    assert sizes[1] < 0.8 * sizes[0]


def test_another_loss_may_be_given():
    inputs, codes = separable(30)
    halved = mx.gluon.loss.SoftmaxCrossEntropyLoss(weight=0.5)
    trainers = [Trainer(small_block(), epochs=1, batch_size=30, loss=loss, random_state=0) for loss in (None, halved)]
    whole, half = (trainer.fit(inputs, codes).history_[0]["loss"] for trainer in trainers)
    assert half == pytest.approx(whole / 2, rel=1e-5)


def test_a_second_fit_starts_its_history_anew():
    trainer = Trainer(small_block(), epochs=2, random_state=0)
    inputs, codes = separable()
    trainer.fit(inputs, codes).fit(inputs, codes)
    assert [record["epoch"] for record in trainer.history_] == [1, 2]


def test_progress_is_logged(caplog):
    with caplog.at_level(logging.INFO, "xfer2"):
        Trainer(small_block(), epochs=2, random_state=0).fit(*separable())
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize(("inputs", "codes"), [(np.zeros((3, 2), np.float32), [0, 1]), (np.zeros((0, 2), np.float32), [])])
def test_examples_and_labels_must_agree_in_number(inputs, codes):
    with pytest.raises(DataError, match=f"got {len(codes)} and {len(inputs)}"):
        Trainer(small_block()).fit(inputs, np.array(codes))


@pytest.mark.parametrize(("parameter", "value"), [("epochs", 0), ("epochs", 1.5), ("batch_size", 0), ("batch_size", True),
                                                  ("learning_rate", 0), ("learning_rate", "fast")])
def test_wrong_parameters_are_named(parameter, value):
    with pytest.raises(ParameterError, match=f"Trainer: {parameter} must be"):
        Trainer(small_block(), **{parameter: value})
