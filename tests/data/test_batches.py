"""Whatever holds the data, each example comes once, in order, with its label."""

import io

import numpy as np
import pytest
from helpers import two_input_symbol, with_values
from PIL import Image

from xfer2 import Preprocessing, extract_features
from xfer2._mxnet import mx
from xfer2.data.batches import open_batches
from xfer2.exceptions import DataError, ImageError, ParameterError

COUNT = 10
ROWS = np.arange(2 * COUNT, dtype=np.float32).reshape(COUNT, 2)
LABELS = np.arange(COUNT) * 3
LEFT, RIGHT = np.random.default_rng(0).normal(size=(2, COUNT, 5)).astype("float32")


@pytest.fixture
def network():
    return with_values(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc"), data=(2,))


@pytest.fixture
def two_inputs():
    return with_values(two_input_symbol(), left=(5,), right=(5,))


def image_network(color="RGB"):
    channels = 1 if color == "GRAY" else 3
    network = with_values(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc"), data=(channels, 4, 4))
    return type(network)(network.graph, network.arg_params, preprocessing=Preprocessing((channels, 4, 4), color=color))


def joined(batches, name="data"):
    read = list(batches)
    labels = None if read[0].labels is None else np.concatenate([batch.labels for batch in read])
    return np.concatenate([batch.data[name] for batch in read]), labels


def check_all_rows(batches, repeats=2):
    for _ in range(repeats):
        data, labels = joined(batches)
        np.testing.assert_array_equal(data, ROWS)
        assert labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("make", [
    lambda: ROWS, lambda: ROWS.astype("float64"), lambda: ROWS.astype("int32"), lambda: ROWS.tolist(), lambda: list(ROWS),
    lambda: mx.nd.array(ROWS), lambda: (ROWS,), lambda: {"data": ROWS}, lambda: {"data": mx.nd.array(ROWS), "other": ROWS},
], ids=["float32", "float64", "int32", "list", "list of arrays", "NDArray", "tuple", "dict", "dict of NDArray"])
def test_arrays_become_float32_batches_in_order(network, make):
    batches = open_batches(make(), network, LABELS, batch_size=4)
    assert batches.size == COUNT
    assert [len(batch.ids) for batch in batches] == [4, 4, 2]
    assert all(batch.data["data"].dtype == np.float32 for batch in batches)
    check_all_rows(batches)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 11, 101])
def test_every_odd_batch_size_keeps_order(network, size):
    check_all_rows(open_batches(ROWS, network, LABELS, batch_size=size), repeats=1)


@pytest.mark.parametrize("labels", [[3, 7] * 5, ["bee", "hornet"] * 5, np.array(["a", "b"] * 5, dtype=object),
                                    [True, False] * 5, mx.nd.array([3, 7] * 5)],
                         ids=["ints", "texts", "objects", "bools", "nd"])
def test_labels_of_any_type_are_kept(network, labels):
    _, found = joined(open_batches(ROWS, network, labels, batch_size=3))
    assert found.tolist() == (labels.asnumpy().tolist() if isinstance(labels, mx.nd.NDArray) else list(labels))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 3)])
def test_uint8_arrays_are_images(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    data, _ = joined(open_batches(pixels, image_network(), batch_size=2))
    channels_last = np.broadcast_to(pixels.reshape(5, 4, 4, -1), (5, 4, 4, 3))
    np.testing.assert_array_equal(data, channels_last.transpose(0, 3, 1, 2).astype("float32"))


@pytest.mark.parametrize("channels", [1, 3])
def test_uint8_arrays_with_channels_first_are_the_same_images(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 8, channels), dtype=np.uint8)
    last, _ = joined(open_batches(pixels, image_network(), batch_size=2))
    first, _ = joined(open_batches(pixels.transpose(0, 3, 1, 2), image_network(), batch_size=2))
    np.testing.assert_array_equal(first, last)


def test_float_arrays_are_network_input_even_where_there_is_a_record():
    values = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype("float32")
    np.testing.assert_array_equal(joined(open_batches(values, image_network()))[0], values)


@pytest.mark.parametrize("make", [lambda: {"right": RIGHT, "left": LEFT}, lambda: (LEFT, RIGHT), lambda: [LEFT, RIGHT],
                                  lambda: mx.io.NDArrayIter({"right": RIGHT, "left": LEFT}, batch_size=4),
                                  lambda: mx.gluon.data.ArrayDataset(LEFT, RIGHT),
                                  lambda: mx.gluon.data.ArrayDataset(LEFT, RIGHT, LABELS),
                                  lambda: mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(LEFT, RIGHT), 4)],
                         ids=["dict", "tuple", "list", "iterator", "dataset", "labelled dataset", "loader"])
def test_two_inputs_go_where_they_belong(two_inputs, make):
    batches = open_batches(make(), two_inputs, batch_size=4)
    np.testing.assert_array_equal(joined(batches, "left")[0], LEFT)
    np.testing.assert_array_equal(joined(batches, "right")[0], RIGHT)


def test_a_missing_input_is_named(two_inputs):
    with pytest.raises(ParameterError, match="left, right"):
        open_batches({"left": LEFT}, two_inputs)
    with pytest.raises(ParameterError, match="a tuple of 2 arrays"):
        open_batches(LEFT, two_inputs)
    with pytest.raises(DataError, match="left 10, right 9"):
        open_batches((LEFT, RIGHT[:9]), two_inputs)


@pytest.mark.parametrize("handle", ["pad", "discard", "roll_over"])
@pytest.mark.parametrize("size", [3, 5, 16])
def test_ndarrayiter_gives_each_example_once_whatever_its_last_batch(network, handle, size):
    iterator = mx.io.NDArrayIter(ROWS, LABELS, batch_size=size, last_batch_handle=handle)
    check_all_rows(open_batches(iterator, network), repeats=3)


@pytest.mark.parametrize("handle", ["pad", "discard", "roll_over"])
def test_ndarrayiter_that_was_half_read_starts_again(network, handle):
    iterator = mx.io.NDArrayIter(ROWS, LABELS, batch_size=4, last_batch_handle=handle)
    next(iterator)
    check_all_rows(open_batches(iterator, network))


@pytest.mark.parametrize("handle", ["pad", "discard", "roll_over"])
def test_shuffled_ndarrayiter_keeps_labels_with_rows(network, handle):
    iterator = mx.io.NDArrayIter(ROWS, LABELS, batch_size=4, shuffle=True, last_batch_handle=handle)
    data, labels = joined(open_batches(iterator, network))
    np.testing.assert_array_equal(ROWS[labels // 3], data)
    assert sorted(labels.tolist()) == LABELS.tolist()
    np.testing.assert_array_equal(iterator.data[0][1].asnumpy(), data)


def test_ndarrayiter_without_labels(network):
    data, labels = joined(open_batches(mx.io.NDArrayIter(ROWS, batch_size=4), network))
    np.testing.assert_array_equal(data, ROWS)
    assert labels is None


def test_an_iterator_of_several_label_arrays_is_refused_with_their_names(network):
    iterator = mx.io.NDArrayIter(ROWS, {"age": LABELS, "class": LABELS[::-1].copy()}, 4)
    with pytest.raises(DataError, match=r"one label an example; this one gives 2 \(age, class\)\. Make an"):
        list(open_batches(iterator, network))


@pytest.mark.parametrize("size", [3, 4, 5, 7])
@pytest.mark.parametrize("round_batch", [True, False])
def test_csviter_gives_each_example_once_at_every_reading(network, tmp_path, size, round_batch):
    np.savetxt(tmp_path / "rows.csv", ROWS, delimiter=",")
    np.savetxt(tmp_path / "labels.csv", LABELS, delimiter=",")
    iterator = mx.io.CSVIter(data_csv=str(tmp_path / "rows.csv"), data_shape=(2,), label_csv=str(tmp_path / "labels.csv"),
                             label_shape=(1,), batch_size=size, round_batch=round_batch)
    check_all_rows(open_batches(iterator, network), repeats=4)


def test_image_record_iterator_is_read_once_and_refused_after(tmp_path):
    path = write_records(tmp_path / "images.rec", range(COUNT))
    iterator = mx.io.ImageRecordIter(path_imgrec=path, data_shape=(3, 4, 4), batch_size=4)
    batches = open_batches(iterator, image_network())
    data, labels = joined(batches)
    assert labels.tolist() == list(range(COUNT))
    assert data[:, 0, 0, 0].tolist() == [20 * number for number in range(COUNT)]
    with pytest.raises(DataError, match=r"read before.*Make a new one"):
        list(batches)


def write_records(path, labels):
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for number, label in enumerate(labels):
        content = io.BytesIO()
        Image.new("RGB", (4, 4), (20 * number,) * 3).save(content, "PNG")
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, float(label), number, 0), content.getvalue()))
    writer.close()
    return str(path)


def pairs():
    return mx.gluon.data.ArrayDataset(ROWS, LABELS)


@pytest.mark.parametrize("last_batch", ["keep", "discard", "rollover"])
def test_loader_gives_each_example_once_whatever_its_last_batch(network, last_batch):
    check_all_rows(open_batches(mx.gluon.data.DataLoader(pairs(), 4, last_batch=last_batch), network), repeats=3)


def test_loader_shuffled_keeps_labels_with_rows(network):
    loader = mx.gluon.data.DataLoader(pairs(), 4, shuffle=True, last_batch="discard")
    data, labels = joined(open_batches(loader, network))
    np.testing.assert_array_equal(ROWS[labels // 3], data)
    assert sorted(labels.tolist()) == LABELS.tolist()


def test_loader_without_labels(network):
    data, labels = joined(open_batches(mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(ROWS), 4), network))
    np.testing.assert_array_equal(data, ROWS)
    assert labels is None


class Backwards(mx.gluon.data.Sampler):
    def __iter__(self):
        return iter(range(COUNT - 1, -1, -1))

    def __len__(self):
        return COUNT


@pytest.mark.parametrize("shuffled", [
    lambda: mx.io.NDArrayIter(ROWS, batch_size=4, shuffle=True),
    lambda: mx.io.ResizeIter(mx.io.NDArrayIter(ROWS, batch_size=5, shuffle=True), 2),
    lambda: mx.io.PrefetchingIter(mx.io.NDArrayIter(ROWS, batch_size=5, shuffle=True)),
    lambda: mx.gluon.data.DataLoader(pairs(), 4, shuffle=True),
    lambda: mx.gluon.data.DataLoader(pairs(), 4, sampler=Backwards()),
    lambda: mx.gluon.data.DataLoader(pairs(), batch_sampler=mx.gluon.data.BatchSampler(Backwards(), 4))])
def test_labels_beside_shuffled_data_are_refused(network, shuffled):
    with pytest.raises(DataError, match="shuffled at every reading"):
        open_batches(shuffled(), network, LABELS)


def test_numbers_and_truths_that_come_as_objects_are_what_they_are(network):
    for given, kind in (([3, 7], "i"), ([np.int64(3), 7], "i"), ([True, False], "b"), (["a", "b"], "U")):
        _, found = joined(open_batches(ROWS, network, np.array(given * 5, dtype=object)))
        assert found.dtype.kind == kind
        assert found[:2].tolist() == given


def test_dataset_with_and_without_labels(network):
    check_all_rows(open_batches(pairs(), network, batch_size=4))
    data, labels = joined(open_batches(mx.gluon.data.SimpleDataset(list(ROWS)), network, batch_size=4))
    np.testing.assert_array_equal(data, ROWS)
    assert labels is None


@pytest.mark.parametrize("wrap", [lambda dataset: dataset, lambda dataset: mx.gluon.data.DataLoader(dataset, 4)])
def test_items_with_the_inputs_in_a_tuple_of_their_own(two_inputs, wrap):
    items = mx.gluon.data.SimpleDataset(list(zip(zip(LEFT, RIGHT, strict=True), LABELS, strict=True)))
    for dataset in (items, items.transform(lambda inputs, label: (tuple(mx.nd.array(one) for one in inputs), label))):
        data, labels = joined(open_batches(wrap(dataset), two_inputs), "right")
        np.testing.assert_array_equal(data, RIGHT)
        assert labels.tolist() == LABELS.tolist()


def test_dataset_with_string_labels(network):
    names = ["bee", "hornet"] * 5
    dataset = mx.gluon.data.SimpleDataset(list(zip(ROWS, names, strict=True)))
    assert joined(open_batches(dataset, network, batch_size=3))[1].tolist() == names


@pytest.mark.parametrize("wrap", [np.asarray, lambda image: mx.nd.array(image, dtype="uint8")], ids=["numpy", "NDArray"])
def test_dataset_of_uint8_images_with_labels(wrap):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    dataset = mx.gluon.data.SimpleDataset([(wrap(image), number % 2) for number, image in enumerate(pixels)])
    data, labels = joined(open_batches(dataset, image_network(), batch_size=2))
    np.testing.assert_array_equal(data, pixels.transpose(0, 3, 1, 2).astype("float32"))
    assert labels.tolist() == [0, 1, 0, 1, 0]


def test_images_of_different_sizes_in_one_dataset_become_one_size():
    dataset = mx.gluon.data.SimpleDataset([(np.zeros((side, side + 1, 3), np.uint8), 0) for side in (5, 8, 11)])
    assert joined(open_batches(dataset, image_network()))[0].shape == (3, 3, 4, 4)


def test_dataset_rows_of_different_shapes_are_an_error(network):
    with pytest.raises(DataError, match="different shapes"):
        list(open_batches(mx.gluon.data.SimpleDataset([np.zeros(2), np.zeros(3)]), network))


def test_dataset_with_several_labels_an_example_is_an_error(network):
    dataset = mx.gluon.data.SimpleDataset([(row, mx.nd.array([0, 1])) for row in ROWS])
    with pytest.raises(DataError, match="one label; these have 2"):
        list(open_batches(dataset, network))


@pytest.mark.parametrize("size", [1, 4])
def test_dataset_where_some_labels_are_missing_is_an_error(network, size):
    dataset = mx.gluon.data.SimpleDataset([(ROWS[0], 1), (ROWS[1], None)])
    with pytest.raises(DataError, match="Some examples have a label and others none"):
        extract_features(network, dataset, "fc", batch_size=size)


def test_given_labels_take_the_place_of_the_data_own(network):
    for data in (mx.io.NDArrayIter(ROWS, LABELS, batch_size=4), mx.gluon.data.DataLoader(pairs(), 4), pairs()):
        assert joined(open_batches(data, network, [f"class {n}" for n in range(COUNT)], 4))[1][9] == "class 9"


@pytest.mark.parametrize("make", [lambda: ROWS, lambda: mx.io.NDArrayIter(ROWS, batch_size=4), pairs,
                                  lambda: mx.gluon.data.DataLoader(pairs(), 4)],
                         ids=["array", "iterator", "dataset", "loader"])
@pytest.mark.parametrize("count", [9, 11])
def test_label_count_mismatch_gives_both_numbers(network, make, count):
    with pytest.raises(DataError, match=rf"^extract_features: there are {count} labels for \d+( or more)? examples\."):
        list(open_batches(make(), network, np.arange(count)))


@pytest.mark.parametrize("count", [9, 11])
def test_label_count_mismatch_for_records_of_unknown_number(tmp_path, count):
    path = write_records(tmp_path / "images.rec", range(COUNT))
    with pytest.raises(DataError, match=rf"^extract_features: there are {count} labels for \d+( or more)? examples\."):
        list(open_batches(path, image_network(), np.arange(count), batch_size=4))


@pytest.mark.parametrize("labels", [["bird", float("nan"), "cat"], [3, "bird", "cat"], [True, 2, 0]])
def test_labels_of_several_types_are_not_made_one(network, labels):
    (batch,) = open_batches(ROWS[:3], network, labels)
    assert batch.labels.dtype == object
    assert [type(label) for label in batch.labels] == [type(label) for label in labels]


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint16"])
def test_whole_numbers_are_no_prepared_input(dtype):
    pixels = np.full((2, 3, 4, 4), 7, dtype)
    with pytest.raises(DataError, match=rf"takes images, uint8.*got {dtype} of shape \(2, 3, 4, 4\).*astype\('uint8'\)"):
        list(open_batches(pixels, image_network()))
    assert next(iter(open_batches(pixels.astype("uint8"), image_network()))).data["data"].shape == (2, 3, 4, 4)


def test_one_image_in_colour_is_no_batch_of_grey_ones():
    with pytest.raises(DataError, match=r"shape \(\.\.\., 4, 3\) is one image in colour; .*image\[None\]"):
        list(open_batches(np.zeros((4, 4, 3), np.uint8), image_network()))


def test_empty_data_are_an_error(network):
    with pytest.raises(DataError, match="empty"):
        open_batches(ROWS[:0], network)
    with pytest.raises(DataError, match="no examples"):
        extract_features(network, mx.gluon.data.SimpleDataset([]), "fc")


@pytest.mark.parametrize("data", [3, None, object(), np.float32(1), np.array(["a", "b"]), np.array([None]), [[1, 2], [3]]],
                         ids=["int", "None", "object", "scalar", "texts", "objects", "ragged"])
def test_data_of_no_readable_kind_are_refused(network, data):
    with pytest.raises(ParameterError, match="extract_features: data"):
        open_batches(data, network)


def test_pixels_without_a_record_say_how_to_give_one(network):
    with pytest.raises(DataError, match=r"preprocessing\.json.*handler\.preprocessing = xfer2\.Preprocessing"):
        list(open_batches(np.zeros((2, 4, 4, 3), np.uint8), network))


def test_wrong_shape_tells_expected_and_got(network):
    with pytest.raises(DataError, match=r"got data \(n, 3\).*expects data \(n, 2\)"):
        extract_features(network, np.zeros((4, 3), np.float32), "fc")


@pytest.mark.parametrize(("parameter", "value"), [("batch_size", 0), ("batch_size", 2.5), ("errors", "ignore")])
def test_wrong_parameters_are_named(network, parameter, value):
    with pytest.raises(ParameterError, match=f"extract_features: {parameter} must be"):
        open_batches(ROWS, network, **{parameter: value})


def test_truncated_image_in_an_iterable_folder_is_named(tmp_path):
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(content, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(content.getvalue()[:len(content.getvalue()) // 2])
    with pytest.raises(ImageError, match=r"cut\.jpg.*truncated.*errors='skip'"):
        list(open_batches(str(tmp_path), image_network()))


@pytest.mark.parametrize("handling", ["pad", "discard", "roll_over"])
def test_pixels_of_an_iterator_are_prepared_whatever_its_last_batch(handling):
    network, pixels = image_network(), np.random.default_rng(0).integers(0, 255, (5, 9, 9, 3), dtype=np.uint8)
    iterator = mx.io.NDArrayIter(mx.nd.array(pixels, dtype="uint8"), batch_size=2, last_batch_handle=handling)
    expected, _ = joined(open_batches(pixels, network))
    for _ in range(2):
        np.testing.assert_array_equal(joined(open_batches(iterator, network))[0], expected)


def wrapped(kind, tmp_path):
    """Iterators that leave rows out, or begin somewhere else at each reading."""
    if kind == "prefetched file":
        np.savetxt(tmp_path / "rows.csv", ROWS, delimiter=",")
        return mx.io.PrefetchingIter(mx.io.CSVIter(data_csv=str(tmp_path / "rows.csv"), data_shape=(2,), batch_size=4))
    inner = mx.io.NDArrayIter(ROWS, LABELS, 4, last_batch_handle="pad" if kind == "prefetched" else "discard")
    return mx.io.PrefetchingIter(inner) if kind.startswith("prefetched") else mx.io.ResizeIter(inner, 2)


@pytest.mark.parametrize("kind", ["prefetched file", "prefetched and discarding", "resized and discarding"])
def test_iterators_around_iterators_that_lose_rows_are_refused(kind, network, tmp_path):
    with pytest.raises(DataError, match=r"A (Prefetching|Resize)Iter of .* each reading. Hand over the inner iterator"):
        list(open_batches(wrapped(kind, tmp_path), network))


def test_an_iterator_around_one_that_gives_all_is_read(network, tmp_path):
    check_all_rows(open_batches(wrapped("prefetched", tmp_path), network))


class Items(mx.gluon.data.Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


@pytest.mark.parametrize(("data", "labels", "message"), [
    (Items({"data": ROWS[0]}), None, "must be numbers; got object"),
    (Items("a text", "another"), None, "must be numbers; got <U"),
    (Items((ROWS[0], [1]), (ROWS[1], [1, 2])), None, "Each example must have one label"),
    (mx.gluon.data.DataLoader(Items({"data": ROWS[0]}), 1, batchify_fn=lambda items: items[0]), None, "must give arrays"),
    (ROWS[:2], [2**70, 1], "Labels must be one an example"), (ROWS[:2], [[1, 2], [1]], "Labels must be one an example"),
    (np.zeros((2, 0, 5), np.uint8), None, "do not fit the network|empty"),
], ids=list("abcdefg"))
def test_data_of_other_kinds_are_told_so(data, labels, message, network):
    with pytest.raises(DataError, match=message):
        extract_features(network, data, "fc", labels=labels)
