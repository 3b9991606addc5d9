"""A saved directory is whole, is what was saved, or is refused by name."""

import hashlib
import json

import numpy as np
import pytest

from xfer2.exceptions import PersistenceError
from xfer2.persistence import from_plain, manifest_digest, read_directory, to_plain, write_directory

FILES = {"a.bin": b"\x00\x01\x02", "b.json": b"{}"}


@pytest.fixture
def saved(tmp_path):
    write_directory(tmp_path / "saved", {"method": "lr"}, FILES)
    return tmp_path / "saved"


def change_manifest(folder, **changes):
    manifest = {**json.loads((folder / "manifest.json").read_text()), **changes}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": manifest_digest(manifest)}))


def test_what_is_written_is_read(saved):
    manifest, files = read_directory(saved)
    assert files == FILES
    assert manifest["method"] == "lr"
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def test_nothing_is_left_beside_the_directory(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]
    assert sorted(path.name for path in saved.iterdir()) == ["a.bin", "b.json", "manifest.json"]


def test_an_existing_directory_is_replaced_only_where_asked(saved):
    with pytest.raises(PersistenceError, match="saved' exists; choose another path or pass overwrite=True"):
        write_directory(saved, {}, {"c": b"new"})
    assert read_directory(saved)[1] == FILES
    write_directory(saved, {}, {"c": b"new"}, overwrite=True)
    assert read_directory(saved)[1] == {"c": b"new"}
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_what_xfer2_did_not_write_is_never_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("text")
    for name in ("mine", "file"):
        with pytest.raises(PersistenceError, match=f"{name}' holds what was not written there by xfer2"):
            write_directory(tmp_path / name, {}, FILES, overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("theirs", ['{"name": "mine", "files": ["thesis.tex"]}', '{"files": {"thesis.tex": ""}}', "[]"])
def test_a_manifest_of_others_is_no_leave_to_overwrite(theirs, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text(theirs)
    (tmp_path / "site" / "thesis.tex").write_text("years of work")
    with pytest.raises(PersistenceError, match=r"site' holds what was not written .* \(manifest.json, thesis.tex\)"):
        write_directory(tmp_path / "site", {}, FILES, overwrite=True)


def test_what_was_put_into_a_saved_directory_is_not_lost(saved):
    (saved / "photos").mkdir()
    (saved / "predictions.csv").write_text("a,b")
    with pytest.raises(PersistenceError, match=r"saved' holds what was not .* \(photos, predictions.csv\)"):
        write_directory(saved, {}, FILES, overwrite=True)
    assert (saved / "predictions.csv").is_file()


def test_a_link_is_followed(saved):
    (saved.parent / "link").symlink_to(saved)
    write_directory(saved.parent / "link", {}, {"c": b"new"}, overwrite=True)
    assert (saved.parent / "link").is_symlink()
    assert read_directory(saved)[1] == {"c": b"new"}


def test_a_manifest_that_says_something_else_is_refused(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "method": "svm"}))
    with pytest.raises(PersistenceError, match=r"manifest.json' is not what was saved: its own sha256 differs"):
        read_directory(saved)


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "new").mkdir()
    write_directory(tmp_path / "new", {}, FILES, overwrite=True)
    assert read_directory(tmp_path / "new")[1] == FILES


@pytest.mark.parametrize(("manifest", "files", "error"), [
    ({}, {"good": b"1", "no/folder": b"2"}, PersistenceError), ({"value": object()}, {"good": b"1"}, TypeError),
    ({"value": float("nan")}, {"good": b"1"}, ValueError), ({}, {"good": b"1", "bad": "no bytes"}, TypeError)])
def test_a_write_that_fails_leaves_the_old_directory(saved, manifest, files, error):
    with pytest.raises(error):
        write_directory(saved, manifest, files, overwrite=True)
    assert read_directory(saved)[1] == FILES
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PersistenceError, match=r"there is no folder '.*nowhere'"):
        write_directory(tmp_path / "nowhere" / "saved", {}, FILES)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_changed_byte_is_refused_by_name(saved, position):
    content = bytearray((saved / "a.bin").read_bytes())
    content[position] ^= 1
    (saved / "a.bin").write_bytes(bytes(content))
    with pytest.raises(PersistenceError, match=r"a\.bin' is not what was saved"):
        read_directory(saved)


def test_a_file_cut_short_or_missing_is_refused_by_name(saved):
    (saved / "a.bin").write_bytes(b"\x00")
    with pytest.raises(PersistenceError, match=r"a\.bin' is not what was saved"):
        read_directory(saved)
    (saved / "a.bin").unlink()
    with pytest.raises(PersistenceError, match=r"a\.bin' is missing"):
        read_directory(saved)


@pytest.mark.parametrize("version", [5, 3, 0, "4", None])
def test_another_format_is_refused(saved, version):
    change_manifest(saved, format=version)
    with pytest.raises(PersistenceError, match=rf"has format {version!r}; this version of xfer2 reads format 4"):
        read_directory(saved)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "deep/file", "..", "", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(saved, name):
    (saved.parent / "secret").write_bytes(b"secret")
    change_manifest(saved, files={name: hashlib.sha256(b"secret").hexdigest()})
    with pytest.raises(PersistenceError, match=r"not a plain file name|cannot be read"):
        read_directory(saved)


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read"), ("[]", "is no manifest"), ("{}", "is no manifest"),
                                               ('{"files": []}', "is no manifest"), ("\xff", "cannot be read")])
def test_a_broken_manifest_is_refused(saved, text, message):
    (saved / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PersistenceError, match=rf"manifest\.json' {message}"):
        read_directory(saved)


def test_no_saved_directory(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PersistenceError, match=r"is no saved repurposer: it has no manifest\.json"):
            read_directory(path)


def through_json(value):
    return from_plain(json.loads(json.dumps(to_plain("parameter", value), allow_nan=False)))


@pytest.mark.parametrize("value", [
    None, True, False, 3, -0.1, 1e-300, "text", "", [], (), {}, [1, [2, (3, None)]], (1, (2, [3, ("a",)])), {1: "a", 2: "b"},
    {"a": {(1, 2): [True]}, None: 1.5}, {True: 0}, float("inf"), -float("inf"), [0.1, float("inf")],
    {"kind": "list", "items": 3}, {3, 1}, set(), frozenset({"a"}), range(2, 9, 3), {"a": {range(2)}},
], ids=repr)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    found = through_json(value)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_nan_comes_back():
    assert np.isnan(through_json(float("nan")))


@pytest.mark.parametrize("array", [
    np.array(["bee", "hornet"]), np.array([3, 7]), np.array([3, 7], np.int8), np.array([0.1, np.nan, np.inf], np.float32),
    np.array([True, False]), np.array([[1.5, 2], [3, 4]]), np.array(2.5), np.empty((0, 3)), np.array([["a", "bc"]]),
    np.array(["a", None, 3], dtype=object),
], ids=lambda array: f"{array.dtype} {array.shape}")
def test_arrays_come_back_with_type_and_shape(array):
    found = through_json(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(("value", "plain"), [(np.float32(0.5), 0.5), (np.int64(3), 3), (np.bool_(True), True),
                                              (np.str_("a"), "a")])
def test_numpy_scalars_become_pythons(value, plain):
    assert through_json(value) == plain
    assert type(through_json(value)) is type(plain)


@pytest.mark.parametrize("value", [object(), {len}, len, 1j, b"bytes", [1, object()], {"a": {2: object()}},
                                   np.array([1j]), np.array([object()]), np.array(["2020"], dtype="datetime64[Y]")])
def test_what_needs_pickle_is_refused_and_the_parameter_named(value):
    with pytest.raises(PersistenceError, match=r"The parameter 'depth' holds a .* cannot be saved without pickle"):
        to_plain("depth", value)
