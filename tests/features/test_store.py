"""Features in files are the features."""

import io

import numpy as np
import pandas
import pytest
from helpers import small_networks

from xfer2 import Features
from xfer2.exceptions import DataError, LayerNotFoundError, ParameterError
from xfer2.features.extractor import extract_features
from xfer2.features.store import FolderStore, MemoryStore, SpillingStore, write_parts

NAMES = ("stage1/unit.2_conv", "a b", "pool", "ümlaut%2F")


def some_features(labels=("wasp", "bee", "wasp")):
    random = np.random.default_rng(0)
    shapes = ((2, 2, 2), (1,), (3,), (2,))
    arrays = {name: random.normal(size=(3, *shape)).astype("float32") for name, shape in zip(NAMES, shapes, strict=True)}
    ids = ["x/1.png", "x/2.png", "y/3.png"]
    return Features(arrays, None if labels is None else np.array(labels), ids, ["bad.png: cut"])


def check_same(found, expected):
    assert found.layers == expected.layers
    assert found.ids == expected.ids
    for layer in expected:
        assert found[layer].dtype == expected[layer].dtype
        np.testing.assert_array_equal(found[layer], expected[layer])
    if expected.labels is None:
        assert found.labels is None
    else:
        assert found.labels.tolist() == expected.labels.tolist()
        assert [type(label) for label in found.labels.tolist()] == [type(label) for label in expected.labels.tolist()]


@pytest.mark.parametrize("file", ["f.npz", "folder", "folder.features"])
@pytest.mark.parametrize("labels", [("wasp", "bee", "wasp"), (3, 7, 3), (0.5, 1.5, 2.5), (True, False, True), None])
def test_what_is_saved_is_loaded(tmp_path, file, labels):
    features = some_features(labels)
    features.save(tmp_path / file)
    check_same(Features.load(tmp_path / file), features)


def test_a_folder_keeps_what_was_skipped_and_stays_on_disk(tmp_path):
    some_features().save(tmp_path / "kept")
    found = Features.load(tmp_path / "kept")
    assert found.skipped == ["bad.png: cut"]
    assert isinstance(found["pool"], np.memmap)


@pytest.mark.parametrize("file", ["f.npz", "folder"])
def test_texts_kept_as_objects_are_saved_without_pickle(tmp_path, file):
    features = some_features()
    features.labels = np.array(["wasp", "bee", "wasp"], dtype=object)
    features.save(tmp_path / file)
    assert Features.load(tmp_path / file).labels.tolist() == ["wasp", "bee", "wasp"]
    features.labels = np.array(["wasp", 3, None], dtype=object)
    with pytest.raises(DataError, match="mixed types cannot be saved"):
        features.save(tmp_path / f"2{file}")


@pytest.mark.parametrize("file", ["f.npz", "f.parquet", "folder"])
@pytest.mark.parametrize(("labels", "said"), [(["x", 1, 2], "mixed types"), ([None, "a", "b"], "mixed types"),
                                              ([2**70, 1, 2], "int"), ([None] * 3, "NoneType"), ([1j, 2, 3], "complex128")])
def test_labels_that_no_file_can_hold_are_refused(tmp_path, file, labels, said):
    features = some_features()
    features.labels = np.array(labels, complex if said == "complex128" else object)
    with pytest.raises(DataError, match=f"Labels of {said} cannot be saved; make them all texts, or all numbers"):
        features.save(tmp_path / file)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["f.npz", "folder"])
@pytest.mark.parametrize("labels", [np.array(["2020", "2021", "2022"], "M8[Y]"), np.array([3, 7, 3], object)])
def test_dates_and_numbers_kept_as_objects_are_saved(tmp_path, file, labels):
    some_features(labels).save(tmp_path / "f.parquet")
    assert len(pandas.read_parquet(tmp_path / "f.parquet")["label"].unique()) == len(np.unique(labels))
    features = some_features(labels)
    features.save(tmp_path / file)
    check_same(Features.load(tmp_path / file), features)


def test_ids_of_mixed_types_do_not_fit_a_table(tmp_path):
    with pytest.raises(DataError, match=r"A column of 'f.parquet' holds values of another type"):
        Features({"fc": np.zeros((2, 1))}, None, ["a", 1]).save(tmp_path / "f.parquet")


def test_labels_of_another_type_further_down_do_not_fit_a_table(tmp_path):
    parts = [Features({"fc": np.zeros((2, 1))}, np.array(labels), range(2)) for labels in ([0, 1], [0.5, 1.5])]
    with pytest.raises(DataError, match=r"A column of 'f.parquet' holds values of another type .*write .npz or .csv"):
        write_parts(str(tmp_path / "f.parquet"), lambda: parts)
    assert not list(tmp_path.iterdir())
    write_parts(str(tmp_path / "f.npz"), lambda: parts)
    assert Features.load(tmp_path / "f.npz").labels.tolist() == [0, 1, 0.5, 1.5]


def test_parquet_is_a_table_for_pandas(tmp_path):
    features = some_features()
    features.save(tmp_path / "f.parquet")
    frame = pandas.read_parquet(tmp_path / "f.parquet")
    assert frame["id"].tolist() == features.ids
    assert frame["label"].tolist() == ["wasp", "bee", "wasp"]
    assert len(frame.columns) == 2 + 8 + 1 + 3 + 2
    np.testing.assert_array_equal(frame["stage1/unit.2_conv_5"], features["stage1/unit.2_conv"].reshape(3, -1)[:, 5])
    np.testing.assert_array_equal(frame[[f"pool_{n}" for n in range(3)]].to_numpy(), features["pool"])


def test_frame_without_labels_has_no_label_column():
    assert list(some_features(None).to_frame().columns[:2]) == ["id", "stage1/unit.2_conv_0"]


def test_saving_again_replaces_a_file(tmp_path):
    some_features().save(tmp_path / "f.npz")
    features = some_features((1, 2, 3))
    features.save(tmp_path / "f.npz")
    check_same(Features.load(tmp_path / "f.npz"), features)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("keep me")
    for write in (some_features().save, FolderStore):
        with pytest.raises(ParameterError, match="must be a folder that is new or empty"):
            write(tmp_path / "kept")
    assert (tmp_path / "kept" / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize("path", ["f.txt", "f.pkl"])
def test_other_kinds_of_file_are_refused(tmp_path, path):
    with pytest.raises(ParameterError, match=r"\.npy or \.csv file, or a folder"):
        some_features().save(tmp_path / path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder '.*nowhere'"):
        some_features().save(tmp_path / "nowhere" / "f.npz")


@pytest.mark.parametrize("name", ["below/f", "below/f.npz", "/proc/f", "/proc/f.npz", "/proc/f.csv", "x" * 300,
                                  "x" * 300 + ".npz"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "below").write_text("a file")
    path = str(tmp_path / name)
    with pytest.raises(DataError, match=rf"Cannot write '{path}': "):
        some_features().save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["below"]


def test_a_store_that_cannot_be_written_is_named_at_once_and_a_full_disk_leaves_nothing(tmp_path):
    network = small_networks()["chain"]
    with pytest.raises(DataError, match=r"Cannot write '/proc/f': .*Choose a name in a folder that can be written"):
        extract_features(network, np.ones((2, 3, 8, 8)), "fc1", store="/proc/f")
    store = FolderStore(tmp_path / "kept")
    store.append("a", np.ones((2, 3)))
    store._files["a"].close()
    store._files["a"] = open("/dev/full", "w+b", buffering=0)  # noqa: SIM115
    with pytest.raises(OSError, match="No space left on device"):
        store.finish(None, range(2), [])
    store.abort()
    assert list(tmp_path.iterdir()) == []


def test_layers_of_names_longer_than_files_may_have(tmp_path):
    names = [start + "b" * length for start in ("", "ü/") for length in (230, 244, 245, 246, 300, 301)]
    features = Features({name: np.full((2, 1), number) for number, name in enumerate(names)}, None, [0, 1])
    features.save(tmp_path / "kept")
    check_same(Features.load(tmp_path / "kept"), features)
    assert (tmp_path / "kept" / f"layer-{names[2]}.npy").is_file()


def npy():
    content = io.BytesIO()
    np.save(content, np.ones(2))
    return content.getvalue()


def write_truncated(path):
    some_features().save(path)
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("write", [write_truncated, lambda path: path.write_text("no archive"), lambda path: None,
                                   lambda path: np.savez(path, other=np.ones(2)), lambda path: path.mkdir(),
                                   lambda path: path.write_bytes(npy())],
                         ids=["truncated", "text", "missing", "another's", "empty folder", "npy"])
def test_what_is_no_features_file_is_named(tmp_path, write):
    path = tmp_path / "f.npz"
    write(path)
    with pytest.raises(DataError, match=r"f\.npz' cannot be read as features"):
        Features.load(path)


def test_folder_with_a_file_cut_short_is_named(tmp_path):
    some_features().save(tmp_path / "kept")
    file = tmp_path / "kept" / "layer-pool.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DataError, match="kept' cannot be read as features"):
        Features.load(tmp_path / "kept")


@pytest.mark.parametrize("size", [None, 3, 10, 100])
def test_memory_store_is_concatenation_whatever_number_was_announced(size):
    random = np.random.default_rng(0)
    parts = [random.normal(size=(count, 2, 3)) for count in (4, 1, 7, 2)]
    store = MemoryStore(size)
    for part in parts:
        store.append("a", part)
    found = store.finish(None, range(14), [])
    np.testing.assert_array_equal(found["a"], np.concatenate(parts))


def test_folder_store_is_concatenation(tmp_path):
    parts = [np.random.default_rng(0).normal(size=(count, 2, 3)) for count in (4, 1, 7, 2)]
    store = FolderStore(tmp_path / "kept")
    for part in parts:
        store.append("a/b", part[:, ::-1])
    found = store.finish(None, range(14), [])
    np.testing.assert_array_equal(found["a/b"], np.concatenate(parts)[:, ::-1])


def test_matrix_puts_layers_side_by_side_and_columns_say_where():
    features = some_features()
    matrix, columns = features.matrix(), features.columns()
    assert matrix.shape == (3, 14)
    assert list(columns) == list(NAMES)
    for layer in NAMES:
        np.testing.assert_array_equal(matrix[:, columns[layer]], features[layer].reshape(3, -1))
    assert np.concatenate(list(columns.values())).tolist() == list(range(14))


def test_a_layer_that_is_not_there_lists_the_nearest():
    with pytest.raises(LayerNotFoundError, match=r"'Pool'.*Nearest: pool"):
        some_features()["Pool"]


def test_features_tell_their_size():
    assert repr(some_features()).startswith("Features(3 examples; stage1/unit.2_conv 2x2x2, a b 1, pool 3")
    assert len(some_features()) == 3


def test_an_extraction_that_fails_midway_leaves_no_folder_and_can_be_tried_again(tmp_path):
    network = small_networks()["chain"]
    images = np.ones((10, 3, 8, 8), np.float32)
    images[9] = np.nan
    with pytest.raises(DataError, match="NaN"):
        extract_features(network, images, "fc1", batch_size=4, store=str(tmp_path / "features"))
    assert list(tmp_path.iterdir()) == []
    kept = extract_features(network, images[:9], "fc1", batch_size=4, store=str(tmp_path / "features"))
    assert kept["fc1"].shape == (9, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["features"]


@pytest.mark.parametrize(("limit", "spilled"), [(0, True), (200, True), (10_000, False)])
@pytest.mark.parametrize("size", [None, 9])
def test_a_spilling_store_is_a_concatenation_in_memory_or_in_a_folder(tmp_path, limit, spilled, size):
    random = np.random.default_rng(0)
    parts = [{"a/b": random.normal(size=(3, 2)), "c": random.normal(size=(3, 2, 2))} for _ in range(3)]
    store = SpillingStore(tmp_path / "kept", limit, size)
    for part in parts:
        for layer, rows in part.items():
            store.append(layer, rows)
    features = store.finish(None, range(9), [])
    assert (tmp_path / "kept").exists() == spilled
    for layer in ("a/b", "c"):
        np.testing.assert_array_equal(features[layer], np.concatenate([part[layer] for part in parts]))
        assert isinstance(features[layer], np.memmap) == spilled


def test_a_spilling_store_that_is_given_up_leaves_nothing(tmp_path):
    store = SpillingStore(tmp_path / "kept", 10)
    store.append("a", np.zeros((3, 2)))
    store.abort()
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_other_lengths_than_the_ids_are_an_error():
    with pytest.raises(DataError, match="2 examples need arrays of as many rows; 'b' has 3"):
        Features({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, None, [0, 1])
    with pytest.raises(DataError, match="'the labels' has 1"):
        Features({"a": np.zeros((2, 1))}, [1], [0, 1])


def test_numpy_ids_and_features_without_values_are_saved_in_a_folder(tmp_path):
    Features({"a": np.zeros((2, 0), np.float32)}, None, np.arange(2)).save(tmp_path / "folder")
    assert Features.load(tmp_path / "folder").ids == [0, 1]
    assert Features.load(tmp_path / "folder")["a"].shape == (2, 0)
