"""The training loop learns, repeats itself to the bit, and says when it fails."""

import logging
from itertools import chain

import numpy as np
import pytest
from training.blocks import Recorder, check_same, noisy, separable, small_block, values

from xfer2._mxnet import mx
from xfer2.exceptions import DataError, ParameterError
from xfer2.training.callbacks import Callback
from xfer2.training.loop import Trainer


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
    np.testing.assert_allclose(trainer.used, expected, atol=1e-9)


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


def test_a_clipped_step_is_as_long_as_the_clip_in_the_direction_of_the_gradient():
    inputs, codes, moved = *separable(9), {}
    for clip in (None, 0.01):
        block = small_block()
        before = values(block)
        Trainer(block, epochs=1, batch_size=9, learning_rate=1.0, optimizer="sgd", clip_gradient=clip,
                random_state=0).fit(inputs, codes)
        moved[clip] = np.concatenate([(values(block)[name] - before[name]).ravel() for name in before])
    assert np.linalg.norm(moved[None]) > 0.01
    np.testing.assert_allclose(moved[0.01], moved[None] * 0.01 / np.linalg.norm(moved[None]), rtol=1e-3, atol=1e-7)


def test_rates_multiply_the_steps_of_their_parameters_and_decay_spares_biases():
    inputs, codes = separable(9)
    steps = {}
    for rate in (1.0, 0.25):
        block = small_block()
        before = values(block)
        Trainer(block, epochs=1, batch_size=9, learning_rate=0.1, optimizer="sgd", rates={"net_dense0_weight": rate},
                random_state=0).fit(inputs, codes)
        steps[rate] = {name: values(block)[name] - before[name] for name in before}
    names = {name.split("net_")[1]: name for name in steps[1.0]}
    assert names
    first = next(name for name in steps[1.0] if name.endswith("dense0_weight"))
    np.testing.assert_allclose(steps[0.25][first], 0.25 * steps[1.0][first], rtol=1e-4, atol=1e-7)


def test_several_devices_share_a_batch_and_come_to_the_same():
    inputs, codes = separable(40)
    single, shared = small_block(), small_block()
    Trainer(single, epochs=3, batch_size=16, learning_rate=0.1, clip_gradient=1.0, random_state=0).fit(inputs, codes)
    shared.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    Trainer(shared, epochs=3, batch_size=16, learning_rate=0.1, clip_gradient=1.0, contexts=[mx.cpu(0), mx.cpu(1)],
            random_state=0).fit(inputs, codes)
    for name, value in values(single).items():
        np.testing.assert_allclose(value, shared.collect_params()[name].data(mx.cpu(0)).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"clip_gradient": 0.1}])
def test_devices_for_which_a_last_batch_has_no_example_add_nothing(settings):
    inputs, codes = separable(17)
    devices = [mx.cpu(number) for number in range(3)]
    single, shared = small_block(), small_block()
    shared.collect_params().reset_ctx(devices)
    for block, contexts in ((single, devices[:1]), (shared, devices)):
        Trainer(block, epochs=3, batch_size=8, optimizer="sgd", learning_rate=0.1, contexts=contexts, random_state=0,
                **settings).fit(inputs, codes)
    for name, value in values(single).items():
        for device in devices:
            np.testing.assert_allclose(value, shared.collect_params()[name].data(device).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.1}, {"mixup": 0.3}, {"label_smoothing": 0.1, "mixup": 0.3},
                                      {"class_weights": np.array([1.0, 2.0, 0.5])}])
def test_softened_and_weighted_targets_are_learned(settings):
    inputs, codes = separable()
    trainer = Trainer(small_block(), epochs=20, batch_size=30, learning_rate=0.05, random_state=0, **settings)
    trainer.fit(inputs, codes)
    assert trainer.evaluate([inputs], codes)["accuracy"].all()


def test_the_mean_of_the_last_epochs_is_kept_where_asked():
    inputs, codes = noisy()
    kept = []

    class Keeper(Callback):
        def on_epoch_end(self, trainer, record):
            kept.append(values(trainer.block))

    block = small_block()
    Trainer(block, epochs=5, batch_size=20, learning_rate=0.1, average_last=3, callbacks=[Keeper()],
            random_state=0).fit(inputs, codes)
    for name, value in values(block).items():
        np.testing.assert_allclose(value, np.mean([one[name] for one in kept[-3:]], axis=0), atol=1e-6)


def test_the_mean_is_of_the_epochs_there_were_where_more_are_asked_for():
    inputs, codes = noisy()
    found = []
    for last in (2, 5):
        block = small_block()
        trainer = Trainer(block, epochs=2, batch_size=20, learning_rate=0.1, average_last=last, random_state=0)
        assert trainer.fit(inputs, codes).averaged_ == 2
        found.append(values(block))
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])


def test_the_mean_of_the_last_epochs_competes_with_the_best():
    inputs, codes = noisy()
    for last, kept in ((3, 3), (12, 0)):  # the first epochs are far from where it ends
        losses, averaged = [], []
        for asked in (0, last):
            trainer = Trainer(small_block(), epochs=12, batch_size=20, learning_rate=0.05, average_last=asked,
                              random_state=0).fit(inputs, codes, noisy(60, seed=2))
            losses.append(trainer.evaluate([noisy(60, seed=2)[0]], noisy(60, seed=2)[1])["loss"])
            averaged.append(trainer.averaged_)
        above = losses[1] - losses[0]
        assert averaged == [0, kept]
        assert above.mean() <= (above.std(ddof=1) / 60**0.5 if kept else 0)


def test_of_several_rows_an_example_every_epoch_takes_one():
    trainer = Trainer(small_block(), epochs=1, batch_size=4, views=3, random_state=0)
    rows, seen = np.arange(30), []
    for _ in range(12):
        for (batch,), codes in trainer.iterate([rows], np.arange(10), np.random.default_rng(len(seen))):
            assert (batch // 3 == codes).all()
            seen.extend(batch.tolist())
    assert len(seen) == 120
    assert set(seen) == set(range(30))
    inputs, codes = separable(30)
    Trainer(small_block(), epochs=1, views=3, random_state=0).fit(np.repeat(inputs, 3, axis=0), codes, (inputs, codes))
    with pytest.raises(DataError, match="as many labels as examples"):
        Trainer(small_block(), epochs=1, views=3, random_state=0).fit(inputs, codes)


def test_no_batch_has_one_example_alone():
    inputs, codes = separable(31)
    recorder = Recorder(small_block(), epochs=1, batch_size=10, random_state=0)
    assert recorder.steps_per_epoch(codes) == 3
    sizes = [len(own) for _, own in recorder.iterate([inputs], codes, np.random.default_rng(0))]
    assert sizes == [10, 10, 11]


@pytest.mark.parametrize(("codes", "said"), [
    ([0, 1, 7], "from 0 to 2, the block's outputs; got 0 to 7"), ([0, -1, 2], "got -1 to 2"),
    ([0.0, 1.7, 1.0], "must be whole numbers"), ([0.0, np.nan, 1.0], "must be whole numbers"),
    (["a", "b", "c"], "must be whole numbers"), ([[0], [1], [2]], "must be whole numbers")])
def test_codes_of_no_class_are_refused(codes, said):
    inputs = separable(3)[0]
    with pytest.raises(DataError, match=said):
        Trainer(small_block(), epochs=1).fit(inputs, codes)
    with pytest.raises(DataError, match=said):
        Trainer(small_block(), epochs=1).fit(inputs, [0, 1, 2], (inputs, codes))


def test_an_augmentation_may_work_in_place():
    seen = []

    def doubled(images, random):
        images *= 2
        return images

    class Seeing(Trainer):
        def iterate(self, inputs, codes, random):
            batch = next(super().iterate(inputs, codes, random))
            yield from [batch] * 3

        def train_step(self, inputs, targets, weights, count):
            seen.append(float(np.abs(inputs[0]).max()))
            return super().train_step(inputs, targets, weights, count)

    Seeing(small_block(), epochs=1, batch_size=90, augment=doubled).fit(*separable())
    assert len(set(seen)) == 1


def test_a_scheduler_among_the_optimizers_parameters_begins_anew_with_every_fit(capsys):
    schedule = mx.lr_scheduler.FactorScheduler(3, 0.5, base_lr=7.0)
    rates = []
    for _ in range(2):
        trainer = Trainer(small_block(), epochs=3, batch_size=30, optimizer_params={"lr_scheduler": schedule},
                          learning_rate=0.1, random_state=0).fit(*separable())
        rates.append([line["rate"] for line in trainer.history_])
    assert rates[0] == rates[1] == [0.1, 0.05, 0.025]
    assert capsys.readouterr().out == ""


def test_the_generator_around_a_run_goes_on():
    def drawn(seed, trains):
        mx.random.seed(seed)
        if trains:
            Trainer(small_block(), epochs=1, random_state=0).fit(*separable(9))
        return mx.nd.random.normal(shape=(3,)).asnumpy().tolist()

    assert drawn(1, True) != drawn(1, False)  # one number was taken
    mx.random.seed(1)
    assert len({tuple(drawn_between()) for _ in range(3)}) == 3


def drawn_between():
    """What is drawn after a run with a seed of its own, going on from where the generator was."""
    Trainer(fixed_block(), epochs=1, random_state=0).fit(*separable(9))
    return mx.nd.random.normal(shape=(3,)).asnumpy().tolist()


def fixed_block():
    block = mx.gluon.nn.Dense(3, in_units=2)
    block.initialize(mx.init.Constant(0.1))
    return block


def test_an_error_of_mxnet_in_a_callback_is_the_callbacks_own():
    class Wrong(Callback):
        def on_step_end(self, trainer, step, loss):
            mx.nd.dot(mx.nd.ones((2, 3)), mx.nd.ones((2, 3)))

    with pytest.raises(mx.MXNetError):
        Trainer(small_block(), epochs=1, callbacks=[Wrong()]).fit(*separable(9))
