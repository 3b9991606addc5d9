"""Image folders, record files and CSV lists, whole and broken."""

import io
import os

import numpy as np
import pytest
from helpers import with_values
from PIL import Image

from xfer2 import Preprocessing, extract_features
from xfer2._mxnet import mx
from xfer2.data.files import open_examples
from xfer2.exceptions import DataError, ImageError

SIDE = 4


@pytest.fixture(scope="module")
def network():
    plain = with_values(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc"), data=(3, SIDE, SIDE))
    return type(plain)(plain.graph, plain.arg_params, preprocessing=Preprocessing((3, SIDE, SIDE)))


def png(value):
    content = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (value, value // 2, 7)).save(content, "PNG")
    return content.getvalue()


def truncated_jpeg():
    content = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(content, "JPEG")
    return content.getvalue()[:len(content.getvalue()) // 2]


def add_image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(value))


def features(network, path, **options):
    return extract_features(network, path, "fc", **options)


def expected_rows(network, values):
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(png(value)))) for value in values])
    return extract_features(network, pixels, "fc")["fc"]


def check_rows(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # a product's last bits depend on the size of the batch


@pytest.fixture
def class_folder(tmp_path):
    folder = tmp_path / "images"
    for number, name in enumerate(["wasp/1.png", "wasp/10.png", "wasp/deep/2.PNG", "bee/b.png", "bee/a.jpeg", ".git/x.png"]):
        add_image(folder / name, 40 * number)
    (folder / "bee" / "notes.txt").write_text("no image")
    (folder / "read me.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("size", [1, 3, 32])
def test_folder_by_class_is_read_in_alphabetical_order(network, class_folder, size):
    found = features(network, class_folder, batch_size=size)
    assert found.ids == ["bee/a.jpeg", "bee/b.png", "wasp/1.png", "wasp/10.png", "wasp/deep/2.PNG"]
    assert found.labels.tolist() == ["bee", "bee", "wasp", "wasp", "wasp"]
    check_rows(found["fc"], expected_rows(network, [160, 120, 0, 40, 80]))


def test_folder_without_classes_has_no_labels(network, tmp_path):
    for number, name in enumerate(["b.png", "a.png"]):
        add_image(tmp_path / name, 50 * number)
    found = features(network, str(tmp_path))
    assert found.ids == ["a.png", "b.png"]
    assert found.labels is None
    check_rows(found["fc"], expected_rows(network, [50, 0]))


def test_an_image_and_a_list_of_images(network, class_folder):
    paths = [class_folder / "bee" / "b.png", str(class_folder / "wasp" / "1.png")]
    found = extract_features(network, paths, "fc", labels=["bee", "wasp"])
    assert found.ids == [str(paths[0]), paths[1]]
    assert found.labels.tolist() == ["bee", "wasp"]
    check_rows(found["fc"], expected_rows(network, [120, 0]))
    alone = features(network, paths[0])
    assert alone.ids == [str(paths[0])]
    check_rows(alone["fc"], found["fc"][:1])
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        features(network, [class_folder / "nowhere.png"])


def test_images_of_kinds_that_are_not_read_are_told(network, class_folder, caplog):
    (class_folder / "bee" / "photo.heic").write_bytes(b"?")
    (class_folder / "wasp" / "drawing.svg").write_text("<svg/>")
    add_image(class_folder / "wasp" / "same.jfif", 7)
    with caplog.at_level("WARNING", logger="xfer2"):
        assert len(features(network, class_folder)) == 6
    assert "2 images of" in caplog.text
    assert "not read, and left out; the first: photo.heic" in caplog.text


def test_folder_that_mixes_both_is_an_error(network, class_folder):
    add_image(class_folder / "loose.png")
    with pytest.raises(DataError, match=r"class folders and, beside them, 1 images.*loose\.png"):
        features(network, class_folder)


def test_empty_folder_and_missing_path(network, tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        features(network, tmp_path)
    with pytest.raises(DataError, match=r"no file or folder '.*nowhere'"):
        features(network, tmp_path / "nowhere")
    (tmp_path / "data.xyz").write_text("?")
    with pytest.raises(DataError, match=r"data\.xyz.*neither an image, an image folder"):
        features(network, tmp_path / "data.xyz")


@pytest.mark.parametrize("content", [b"", b"this is no image", truncated_jpeg()], ids=["empty", "text", "truncated"])
def test_unreadable_image_is_named_or_skipped(network, class_folder, content):
    (class_folder / "bee" / "broken.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"bee/broken\.jpg.*cannot be decoded.*errors='skip'"):
        features(network, class_folder)
    found = features(network, class_folder, errors="skip", batch_size=2)
    assert found.ids == ["bee/a.jpeg", "bee/b.png", "wasp/1.png", "wasp/10.png", "wasp/deep/2.PNG"]
    assert found.labels.tolist() == ["bee", "bee", "wasp", "wasp", "wasp"]
    assert len(found.skipped) == 1
    assert "broken.jpg" in found.skipped[0]
    check_rows(found["fc"], expected_rows(network, [160, 120, 0, 40, 80]))


def test_given_labels_stay_with_their_images_where_some_are_skipped(network, tmp_path):
    for name in "acd":
        add_image(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"")
    assert features(network, tmp_path, labels=["A", "B", "C", "D"], errors="skip").labels.tolist() == ["A", "C", "D"]


def test_nothing_but_unreadable_images_is_an_error(network, tmp_path):
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no examples that can be read.*1 images were skipped.*b\.png"):
        features(network, tmp_path, errors="skip")


def test_label_count_mismatch_is_told_before_reading(network, class_folder):
    with pytest.raises(DataError, match="there are 3 labels for 5 examples"):
        features(network, class_folder, labels=[1, 2, 3])


@pytest.mark.parametrize("kind", ["folder", "csv", "rec"])
def test_images_without_a_preprocessing_record(tmp_path, kind):
    bare = with_values(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc"), data=(3, SIDE, SIDE))
    add_image(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("a.png\n")
    path = {"folder": tmp_path, "csv": tmp_path / "list.csv", "rec": write_records(tmp_path / "r.rec", [0])}[kind]
    with pytest.raises(DataError, match=r"preprocessing\.json beside the checkpoint.*handler\.preprocessing"):
        features(bare, path)


def write_records(path, labels, index=False, content=None):
    if index:
        writer = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w")
    else:
        writer = mx.recordio.MXRecordIO(str(path), "w")
    for number, label in enumerate(labels):
        header = mx.recordio.IRHeader(0, label, number, 0)
        record = mx.recordio.pack(header, png(20 * number) if content is None else content)
        if index:
            writer.write_idx(number, record)
        else:
            writer.write(record)
    writer.close()
    return path


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("size", [1, 3, 7, 32])
def test_records_with_and_without_index(network, tmp_path, index, size):
    path = write_records(tmp_path / "images.rec", [3.0, 7.0, 3.0, 7.0, 7.0, 3.0, 3.0], index)
    found = features(network, path, batch_size=size)
    assert found.labels.tolist() == [3, 7, 3, 7, 7, 3, 3]
    assert found.labels.dtype.kind == "i"
    assert found.ids == list(range(7))
    check_rows(found["fc"], expected_rows(network, range(0, 140, 20)))


def test_records_with_several_labels_are_refused(network, tmp_path):
    path = write_records(tmp_path / "multi.rec", [[1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match=r"Record 0 of .*multi\.rec.* has 3 labels; one is needed"):
        features(network, path)


def test_records_with_a_label_array_of_one(network, tmp_path):
    assert features(network, write_records(tmp_path / "one.rec", [[4.0], [5.0]])).labels.tolist() == [4, 5]


def test_record_that_holds_no_image_is_named_or_skipped(network, tmp_path):
    path = write_records(tmp_path / "bad.rec", [1.0, 2.0], content=truncated_jpeg())
    with pytest.raises(ImageError, match=r"record 0 of .*bad\.rec"):
        features(network, path)
    with pytest.raises(DataError, match="2 images were skipped"):
        features(network, path, errors="skip")


def test_empty_record_file(network, tmp_path):
    (tmp_path / "empty.rec").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.rec.*is empty"):
        features(network, tmp_path / "empty.rec")


def test_record_too_short_for_a_header(network, tmp_path):
    writer = mx.recordio.MXRecordIO(str(tmp_path / "short.rec"), "w")
    writer.write(b"abc")
    writer.close()
    with pytest.raises(DataError, match=r"short\.rec.*record 0"):
        features(network, tmp_path / "short.rec")


@pytest.mark.parametrize("header", ["", "path,label\n", "Image,class\n"])
@pytest.mark.parametrize(("labels", "expected"), [(["3", "7"], [3, 7]), (["bee", "wasp"], ["bee", "wasp"]),
                                                  (["3", "x"], ["3", "x"]), (["007", "7"], ["007", "7"]),
                                                  (["1_0", "10"], ["1_0", "10"]), (["-1", "1"], [-1, 1])])
def test_csv_with_labels(network, tmp_path, header, labels, expected):
    add_image(tmp_path / "pictures" / "b.png", 10)
    add_image(tmp_path / "a.png", 90)
    (tmp_path / "list.csv").write_text(f"{header}pictures/b.png,{labels[0]}\n\na.png, {labels[1]}\n")
    found = features(network, tmp_path / "list.csv")
    assert found.labels.tolist() == expected
    assert found.ids == ["pictures/b.png", "a.png"]
    check_rows(found["fc"], expected_rows(network, [10, 90]))


@pytest.mark.parametrize("header", ["image_name", "id", "img", "filepath", "Photograph", "photo of"])
def test_a_first_row_that_names_no_image_is_a_header(tmp_path, header):
    (tmp_path / "list.csv").write_text(f"{header},class\na.png,3\nb.png,7\n")
    assert [(example.id, example.label) for example in open_examples(tmp_path / "list.csv").read()] == [
        ("a.png", 3), ("b.png", 7)]


def test_a_first_row_that_may_name_an_image_is_none(tmp_path):
    (tmp_path / "first").write_bytes(png(1))  # images may have no suffix
    for rows in ("gone.png,1\na.png,2\n", "first,1\na.png,2\n", "gone,1\nmissing,2\n", "gone.heic,1\na.png,2\n"):
        (tmp_path / "list.csv").write_text(rows)
        assert [example.label for example in open_examples(tmp_path / "list.csv").read()] == [1, 2]


def test_quotes_after_a_space_are_no_part_of_a_label(tmp_path):
    (tmp_path / "list.csv").write_text('a.png, "bee, wild"\n"b.png",  "wasp"\n')
    assert [(example.id, example.label) for example in open_examples(tmp_path / "list.csv").read()] == [
        ("a.png", "bee, wild"), ("b.png", "wasp")]


def test_csv_of_paths_alone_relative_to_the_csv_and_absolute(network, tmp_path, monkeypatch):
    add_image(tmp_path / "a.png", 10)
    add_image(tmp_path / "other" / "b.png", 60)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.csv").write_text(f"path\n../a.png\n{tmp_path / 'other' / 'b.png'}\n")
    monkeypatch.chdir(tmp_path / "other")
    found = features(network, os.path.join("..", "lists", "list.csv"))
    assert found.labels is None
    check_rows(found["fc"], expected_rows(network, [10, 60]))


def test_csv_that_names_a_missing_image(network, tmp_path):
    (tmp_path / "list.csv").write_text("gone.png,1\n")
    with pytest.raises(ImageError, match=r"gone\.png"):
        features(network, tmp_path / "list.csv")


@pytest.mark.parametrize(("text", "message"), [
    ("", "names no images"), ("path,label\n", "names no images"), ("a.png,1\nb.png\n", "1, 2 cells"),
    ("a.png,1,2\n", "3 cells"), ("a.png,1\nb.png,\n", "Row 2 .*empty label")])
def test_csv_that_is_no_list(network, tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        features(network, tmp_path / "list.csv")


def test_csv_that_is_no_text(network, tmp_path):
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00\x80,1\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        features(network, tmp_path / "list.csv")


def test_hidden_images_are_no_examples(tmp_path):
    for name in ("cat/a.png", "cat/.ipynb_checkpoints/a.png", "cat/._a.png", "dog/b.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [example.id for example in open_examples(tmp_path).read()] == ["cat/a.png", "dog/b.png"]


def test_links_are_followed_and_broken_ones_named(tmp_path):
    for name in ("elsewhere/deep/a.png", "photos/cat/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "photos/cat/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/cat/round").symlink_to(tmp_path / "photos" / "cat")
    (tmp_path / "photos/cat/gone.png").symlink_to(tmp_path / "nowhere.png")
    assert [example.id for example in open_examples(tmp_path / "photos").read()] == [
        "cat/b.png", "cat/gone.png", "cat/more/deep/a.png"]


def test_a_class_folder_without_images_is_an_error(tmp_path):
    for name in ("cat/a.png", "dog/b.heic"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"The class folder '.*dog' holds no images: .*Move it away"):
        open_examples(tmp_path)


def test_the_index_of_a_record_file_counts_lines_that_say_something(tmp_path):
    for index, size in ((b"0\t0\n1\t9", 2), (b"0\t0\n1\t9\n\n", 2), (b"\xff\xfe", 1)):
        (tmp_path / "a.rec").write_bytes(b"records")
        (tmp_path / "a.idx").write_bytes(index)
        assert open_examples(tmp_path / "a.rec").size == size
