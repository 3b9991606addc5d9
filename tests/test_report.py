"""A report says the numbers that were computed, of whatever the data are called, in one file."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from xfer2 import Prediction
from xfer2.exceptions import DataError, ParameterError
from xfer2.report import write_report
from xfer2.uncertainty.evaluation import Evaluation

RANDOM = np.random.default_rng(0)
CLASSES = np.array(["bee", "fly & gnat", "<script>alert('wasp')</script>", "$\\bad{$", "never"])
TRUTH = CLASSES[RANDOM.integers(0, 4, 60)]
PROBABILITIES = RANDOM.dirichlet(np.full(5, 0.4), 60) * 0.7 + 0.3 * (TRUTH[:, np.newaxis] == CLASSES) * [1, 1, 1, 1, 0]
PROBABILITIES[:, 4] = 0
PROBABILITIES /= PROBABILITIES.sum(axis=1, keepdims=True)
PREDICTION = Prediction(PROBABILITIES, CLASSES, [f'folder/"{row}".png' for row in range(60)], epistemic=RANDOM.random(60),
                        aleatoric=RANDOM.random(60), distances={"mahalanobis": 100 * RANDOM.random(60)},
                        skipped=['"broken".png: cannot be read'])
SECTIONS = {"What was done": {"method": "lr <of> \"features\""}, "The data": {"examples": 60}}
HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.9, 0.5], "validation_loss": [0.8, 0.9]})
GATES = pd.DataFrame({"layer": ["conv0", "dense0"], "update": [0.8, 0.3], "fine_tune": [0.2, 0.6]})


def images(rows):
    return {row: np.full((300, 200, 3), 4 * row, np.uint8) for row in rows}


EVERYTHING = {"title": "Bees & <wasps>", "sections": SECTIONS, "prediction": PREDICTION, "labels": TRUTH, "images": images,
              "features": RANDOM.normal(size=(60, 8)), "history": HISTORY, "gates": GATES,
              "reproduce": "xfer2 predict lr 'a b' > out && echo <done>"}


class Page(HTMLParser):
    """What a reader meets: headings, tables as rows of texts, tags with their attributes, all text outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.tables, self.tags, self.texts, self._open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, tag  # what is opened is closed, in order

    def handle_data(self, data):
        if "script" in self._open or "style" in self._open:
            return
        self.texts.append(data)
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data
        elif "h2" in self._open:
            self.headings[-1] += data

    def table_with(self, head):
        return next(table for table in self.tables if head in table[0])


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, **EVERYTHING)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_everything_is_there_in_order(page):
    assert page.headings == ["What was done", "The data", "Left out", "Figures", "Plots", "Classes", "Predictions",
                             "How to reproduce it"]
    assert [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"] == [
        "Reliability diagram", "Risk-coverage curve", "Confusion matrix", "Training history", "Gates",
        "Map of the features", "Most uncertain", "Most confidently wrong"]
    assert sum(tag == "figcaption" for tag, _ in page.tags) == sum(tag == "figure" for tag, _ in page.tags) == 8
    assert page.tables[0] == [["method", 'lr <of> "features"']]
    assert page.tables[1] == [["examples", "60"]]
    assert page.tables[2] == [["1", '"broken".png: cannot be read']]


def test_figures_are_those_of_the_evaluation(page):
    figures = Evaluation(PREDICTION, TRUTH).figures(random_state=0)
    rows = page.table_with("figure")[1:]
    assert [row[1] for row in rows] == [f"{one.value:.3f}" for one in figures.values()]
    assert [row[2] for row in rows] == [f"{one.low:.3f} to {one.high:.3f}" for one in figures.values()]
    assert [row[0] for row in rows] == ["accuracy", "negative log likelihood", "Brier score", "expected calibration error",
                                        "area under the risk-coverage curve"]
    assert any(f"60 examples of 5 classes: accuracy {figures['accuracy']}" in one for one in page.texts)


def test_classes_are_those_of_scikit_learn(page):
    rows = page.table_with("recall")[1:]
    precision, recall, f1, examples = precision_recall_fscore_support(TRUTH, PREDICTION.labels, labels=CLASSES,
                                                                      zero_division=0)
    assert [row[0] for row in rows] == CLASSES.tolist()
    for number, row in enumerate(rows[:4]):
        chosen = PREDICTION.labels == CLASSES[number]
        assert row[1:] == [str(examples[number]), str(chosen.sum()), f"{precision[number]:.3f}", f"{recall[number]:.3f}",
                           f"{f1[number]:.3f}", f"{PREDICTION.confidence[chosen].mean():.3f}"]
    assert rows[4] == ["never", "0", "0", "-", "-", "-", "-"]


def test_predictions_are_all_there_the_most_uncertain_first(page):
    head, *rows = page.table_with("truth")
    assert head == ["id", "label", "truth", "right", "confidence", "entropy", "aleatoric", "epistemic", "mahalanobis"]
    order = np.argsort(-PREDICTION.entropy)
    assert [row[0] for row in rows] == [PREDICTION.ids[row] for row in order]
    first = order[0]
    right = {True: "yes", False: "no"}[bool(PREDICTION.labels[first] == TRUTH[first])]
    assert rows[0][1:4] == [PREDICTION.labels[first], TRUTH[first], right]
    assert rows[0][4:] == [f"{PREDICTION.confidence[first]:.4f}", f"{PREDICTION.entropy[first]:.4f}",
                           f"{PREDICTION.aleatoric[first]:.4f}", f"{PREDICTION.epistemic[first]:.4f}",
                           f"{PREDICTION.distances['mahalanobis'][first]:.4g}"]


def test_plots_say_their_numbers(page):
    figures = Evaluation(PREDICTION, TRUTH).figures()
    assert f"accuracy, ECE {figures['expected_calibration_error'].value:.3f}" in page.texts
    assert f"entropy, area {figures['area_under_risk_coverage'].value:.3f}" in page.texts
    assert any(one.startswith("epistemic, area ") for one in page.texts)
    assert "least: epoch 1" in page.texts


def test_nothing_from_the_data_becomes_markup(page, text):
    assert sum(tag == "script" for tag, _ in page.tags) == text.count("<script>") == 1
    assert "Bees & <wasps>" in page.texts
    assert EVERYTHING["reproduce"] in page.texts
    assert "$\\bad{$" in page.texts
    assert "lr <of>" not in text


def test_it_asks_nothing_of_any_network(page, text):
    assert "http://" not in text
    assert "https://" not in text
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"url\((?!#)|@import", text)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def test_ids_are_unique_and_references_find_them(page, text):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 0
    wanted = {attrs["xlink:href"][1:] for _, attrs in page.tags if attrs.get("xlink:href", "").startswith("#")}
    assert wanted | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_text_of_plots_takes_the_pages_colour(page):
    styles = [attrs.get("style", "") for tag, attrs in page.tags if tag == "text"]
    assert len(styles) > 50
    colours = {found[1] for style in styles if (found := re.search(r"fill: ([^;]+)", style))}
    assert colours <= {"currentColor", "#ffffff", "#000000"}  # white and black: on the confusion matrix's own cells
    assert not any("#0a1b2d" in attrs.get("style", "") for _, attrs in page.tags)


def test_images_are_small(text):
    pictures = re.findall(r'<image [^>]*"data:image/png;base64,([^"]+)"', text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in pictures]
    assert sizes.count((64, 96)) == 12  # 200 x 300 before
    assert max(map(max, sizes)) <= 96


def test_the_same_input_gives_the_same_bytes_whatever_the_users_style(tmp_path, text):
    import matplotlib as mpl

    with mpl.rc_context({"axes.grid": True, "font.size": 20, "text.color": "red"}):
        write_report(tmp_path / "again.html", **EVERYTHING)
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_without_labels_nothing_is_said_that_needs_them(tmp_path):
    write_report(tmp_path / "a.html", **(EVERYTHING | {"labels": None, "history": None, "gates": None, "reproduce": ""}))
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.headings == ["What was done", "The data", "Left out", "Plots", "Classes", "Predictions"]
    assert [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"] == ["Map of the features", "Most uncertain"]
    assert page.table_with("class")[0] == ["class", "predicted", "mean confidence"]
    assert page.table_with("confidence")[0][:3] == ["id", "label", "confidence"]
    said = f"60 examples of 5 classes, without true labels: mean confidence {PREDICTION.confidence.mean():.3f}."
    assert said in page.texts


def test_a_single_example_will_do(tmp_path):
    one = Prediction(PROBABILITIES[:1], CLASSES, ["a.png"])
    write_report(tmp_path / "a.html", title="One", sections={}, prediction=one, labels=TRUTH[:1], features=np.ones((1, 3)))
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert any(text.startswith("1 example of 5 classes") for text in page.texts)
    assert "Map of the features" not in [attrs.get("aria-label") for _, attrs in page.tags]


def test_rows_beyond_five_thousand_are_left_out_and_that_is_said(tmp_path):
    many = Prediction(RANDOM.dirichlet([1, 1], 5002), np.array([3, 7]), np.arange(5002))
    write_report(tmp_path / "a.html", title="Many", sections={}, prediction=many)
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    rows = page.table_with("id")[1:]
    assert len(rows) == 5000
    left = np.argsort(many.entropy)[:2]
    assert {str(row) for row in left}.isdisjoint(row[0] for row in rows)
    assert any("The 5,000 most uncertain of 5,002 examples" in text for text in page.texts)


def test_images_that_cannot_be_read_are_left_out(tmp_path):
    write_report(tmp_path / "a.html", **(EVERYTHING | {"images": lambda rows: {}}))
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Most uncertain" not in [attrs.get("aria-label") for _, attrs in page.tags]


def test_a_file_is_replaced_only_when_asked_and_only_whole(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("mine")
    simple = {"title": "A", "sections": {}, "prediction": PREDICTION}
    with pytest.raises(ParameterError, match="Say overwrite=True to replace it"):
        write_report(path, **simple)
    with pytest.raises(DataError, match="float64"):
        write_report(path, **simple, images=lambda rows: {row: np.zeros((4, 4)) for row in rows}, overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
    write_report(path, **simple, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_names_may_be(tmp_path):
    path = tmp_path / f"{'r' * 245}.html"
    write_report(path, title="A", sections={}, prediction=PREDICTION)
    assert list(tmp_path.iterdir()) == [path]


def test_errors(tmp_path):
    simple = {"title": "A", "sections": {}, "prediction": PREDICTION}
    with pytest.raises(DataError, match=r"the folder '.*absent' is not there"):
        write_report(tmp_path / "absent" / "a.html", **simple)
    with pytest.raises(ParameterError, match=r"write_report: title must be a text; got 5 \(int\)"):
        write_report(tmp_path / "a.html", **(simple | {"title": 5}))
    with pytest.raises(ParameterError, match="the path of a file, not of a folder"):
        write_report(tmp_path, **simple, overwrite=True)
    with pytest.raises(DataError, match="features must have one row for each of 60 examples; got 2"):
        write_report(tmp_path / "a.html", **simple, features=np.ones((2, 3)))
    with pytest.raises(DataError, match="the label 'hornet' is not among the classes"):
        write_report(tmp_path / "a.html", **simple, labels=["hornet"] * 60)
    with pytest.raises(DataError, match="the prediction has no examples"):
        write_report(tmp_path / "a.html", title="A", sections={}, prediction=Prediction(np.zeros((0, 5)), CLASSES, []))
    assert not list(tmp_path.iterdir())
