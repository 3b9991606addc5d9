"""The opening of the README, on real photographs and a real ImageNet network."""

import html
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import xfer2
from xfer2.exceptions import ImageError
from xfer2.uncertainty.ood import out_of_distribution_scores


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Folders 'flower' and 'temple', cuts of two photographs that ship with scikit-learn: 16 to train, 8 to test, each."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
        for part, count in (("train", 16), ("test", 8)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                top, left = random.integers(0, photograph.shape[0] - 240), random.integers(0, photograph.shape[1] - 260)
                Image.fromarray(photograph[top:top + 240, left:left + 260]).save(folder / f"{number:02d}.jpg", quality=92)
    return root


def test_three_lines_on_folders_of_photographs(shared, photographs):
    source = str(shared / "models" / "squeezenet1.0-imagenet")
    train_data, test_data = photographs / "train", photographs / "test"
    repurposer = xfer2.LrRepurposer(source, feature_layer_names=["pool_final"])
    repurposer.repurpose(train_data)
    labels = repurposer.predict_label(test_data)
    assert labels.tolist() == ["flower"] * 8 + ["temple"] * 8


def test_an_unreadable_photograph_is_named_or_skipped(shared, photographs, tmp_path):
    for name in ("flower", "temple"):
        (tmp_path / name).mkdir()
        for path in sorted((photographs / "train" / name).iterdir())[:4]:
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "temple" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    source = str(shared / "models" / "squeezenet1.0-imagenet")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        xfer2.LrRepurposer(source, ["pool_final"]).repurpose(tmp_path)
    repurposer = xfer2.LrRepurposer(source, ["pool_final"], errors="skip").repurpose(tmp_path)
    prediction = repurposer.predict_uncertainty(tmp_path)
    assert len(prediction) == 8
    assert "broken.jpg" in prediction.skipped[0]


def test_a_repurposer_of_ones_own_needs_one_method():
    from sklearn.naive_bayes import GaussianNB

    class BayesRepurposer(xfer2.MetaModelRepurposer):
        def _train_model_from_features(self, features, labels, feature_indices_per_layer):
            assert list(feature_indices_per_layer) == ["dense0", "dense1"]
            assert features.shape[1] == 138
            return GaussianNB().fit(features, labels)

    images = np.zeros((20, 28, 28), np.uint8)
    images[::2, 5:20, 5:20] = 255
    labels = ["full", "empty"] * 10
    repurposer = BayesRepurposer("zoo:mnist-cnn", ["dense0", "dense1"]).repurpose(images, labels)
    assert repurposer.predict_label(images).tolist() == labels


def test_a_repurposer_of_ones_own_is_saved_and_loaded_by_its_class(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 28, 28), dtype=np.uint8)
    repurposer = OwnRepurposer("zoo:mnist-cnn", "dense0").fit(images, [1, 2, 3] * 4)
    repurposer.save(tmp_path / "own")
    with pytest.raises(xfer2.exceptions.PersistenceError, match=r"OwnRepurposer\.load"):
        xfer2.load(tmp_path / "own")
    again = OwnRepurposer.load(tmp_path / "own")
    np.testing.assert_array_equal(again.predict_proba(images), repurposer.predict_proba(images))


def test_a_repurposer_of_ones_own_that_names_fewer_parameters_keeps_the_others(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 28, 28), dtype=np.uint8)
    repurposer = PooledRepurposer("zoo:mnist-cnn", smoothing=1e-3).fit(images, [1, 2, 3] * 4)
    repurposer.save(tmp_path / "pooled")
    again = PooledRepurposer.load(tmp_path / "pooled")
    assert (again.smoothing, again.pool, again.batch_size) == (1e-3, "max", 5)
    np.testing.assert_array_equal(again.predict_proba(images), repurposer.predict_proba(images))


def test_pooling_that_is_changed_after_fit_waits_for_the_next_fit(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 28, 28), dtype=np.uint8)
    repurposer = xfer2.LrRepurposer("zoo:mnist-cnn", "pool0", pool="avg", random_state=0).fit(images, [1, 2, 3] * 4)
    before = repurposer.predict_proba(images)
    np.testing.assert_array_equal(repurposer.set_params(pool="max").predict_proba(images), before)
    repurposer.save(tmp_path / "changed")
    np.testing.assert_array_equal(xfer2.load(tmp_path / "changed").predict_proba(images), before)
    assert np.abs(repurposer.fit(images, [1, 2, 3] * 4).predict_proba(images) - before).max() > 0


def test_scikit_learns_own_forest_is_loaded_without_more_ado(tmp_path):
    from sklearn.ensemble import RandomForestClassifier

    images = np.random.default_rng(0).integers(0, 255, (12, 28, 28), dtype=np.uint8)
    forest = xfer2.SklearnRepurposer("zoo:mnist-cnn", "dense0", RandomForestClassifier(5)).fit(images, [1, 2, 3] * 4)
    forest.save(tmp_path / "forest")
    np.testing.assert_array_equal(xfer2.load(tmp_path / "forest").predict_proba(images), forest.predict_proba(images))


def test_labels_of_another_kind_than_the_classes_are_no_wrong_answers():
    images = np.random.default_rng(0).integers(0, 255, (12, 28, 28), dtype=np.uint8)
    repurposer = xfer2.LrRepurposer("zoo:mnist-cnn", "dense0").fit(images, [1, 2, 3] * 4)
    with pytest.raises(xfer2.exceptions.DataError, match="the labels are of type <U1, as '1'; the classes of type int64"):
        repurposer.score(images, ["1", "2", "3"] * 4)


class PooledRepurposer(xfer2.MetaModelRepurposer):
    def __init__(self, source_model, smoothing=1e-9):
        super().__init__(source_model, "pool0", pool="max", batch_size=5)
        self.smoothing = smoothing

    def _train_model_from_features(self, features, labels, feature_indices_per_layer):
        from sklearn.naive_bayes import GaussianNB

        return GaussianNB(var_smoothing=self.smoothing).fit(features, labels)


class OwnRepurposer(xfer2.MetaModelRepurposer):
    def _train_model_from_features(self, features, labels, feature_indices_per_layer):
        from sklearn.naive_bayes import GaussianNB

        return GaussianNB().fit(features, labels)


def test_a_base_class_without_a_head_says_what_to_implement():
    with pytest.raises(TypeError, match="_train_model_from_features"):
        xfer2.MetaModelRepurposer("zoo:mnist-cnn", "dense0").fit(np.zeros((4, 1, 28, 28)), [0, 1, 0, 1])


def test_a_head_with_margins_only_gets_probabilities_and_one_with_labels_only_says_how_to_get_them():
    from sklearn.ensemble import VotingClassifier
    from sklearn.svm import LinearSVC

    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    margins = xfer2.SklearnRepurposer("zoo:mnist-cnn", "dense0", LinearSVC()).fit(images, [0, 1] * 10)
    np.testing.assert_allclose(margins.predict_proba(images).sum(axis=1), 1)
    voting = VotingClassifier([("one", LinearSVC()), ("two", LinearSVC())])
    with pytest.raises(xfer2.exceptions.ParameterError, match="CalibratedClassifierCV"):
        xfer2.SklearnRepurposer("zoo:mnist-cnn", "dense0", voting).fit(images, [0, 1] * 10)


def test_a_wrong_parameter_is_named_by_the_repurposers_own_name_before_anything_is_computed():
    class Unreadable:
        """Data that must not be looked at."""

    with pytest.raises(xfer2.exceptions.ParameterError, match="LrRepurposer: c must be a positive number; got -1"):
        xfer2.LrRepurposer("zoo:mnist-cnn", "dense0", c=-1).fit(Unreadable(), [0, 1])


def test_svm_without_probability_estimates_gives_labels_and_says_how_to_get_more():
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    labels = np.array(["odd", "even"] * 10)
    repurposer = xfer2.SvmRepurposer("zoo:mnist-cnn", "dense0", c=3.0, enable_probability_estimates=False)
    repurposer.fit(images, labels)
    assert repurposer.score(images, labels) == (repurposer.predict_label(images) == labels).mean()
    with pytest.raises(xfer2.exceptions.ParameterError, match="enable_probability_estimates must be True"):
        repurposer.predict_probability(images)


def test_logistic_regression_fits_predicts_saves_and_loads_without_torch(tmp_path):
    script = ("import sys, numpy as np, xfer2; x = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8); "
              "saved = sys.argv[1]; xfer2.LrRepurposer('zoo:mnist-cnn', 'dense0').fit(x, [0, 1] * 10).save(saved); "
              "xfer2.load(saved).predict_uncertainty(x); "
              "print([name for name in ('torch', 'gpytorch', 'mapie', 'matplotlib', 'gluoncv') if name in sys.modules])")
    call = [sys.executable, "-c", script, str(tmp_path / "saved")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_report_says_lines_that_do_it_again(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), dtype=np.uint8)
    labels = np.array(["odd", "even"] * 10)
    repurposer = xfer2.LrRepurposer("zoo:mnist-cnn", ["dense0"], random_state=np.random.RandomState(0)).fit(images, labels)
    repurposer.report(tmp_path / "report.html", images, labels)
    page = html.unescape((tmp_path / "report.html").read_text())
    lines = page[page.index("import xfer2"):page.index("repurposer.fit(") + len("repurposer.fit(data, labels)")]
    assert "0x" not in lines
    known = {"data": images, "labels": labels, "random_state": 0}
    written = "\n".join(line for line in lines.splitlines() if "= ..." not in line)
    exec(compile(written, "report", "exec"), known)
    assert known["repurposer"].score(images, labels) > 0.5


def test_labels_beside_images_of_which_some_are_skipped(tmp_path):
    for number in range(12):
        Image.fromarray(np.full((28, 28), 20 * number, np.uint8)).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "03.png").write_bytes(b"no image")
    labels = np.array(["dark", "bright"] * 6)
    repurposer = xfer2.LrRepurposer("zoo:mnist-cnn", "dense0", errors="skip").fit(tmp_path, labels)
    predicted = repurposer.predict(tmp_path)
    assert repurposer.score(tmp_path, labels) == (predicted == np.delete(labels, 3)).mean()
    assert len(repurposer.evaluate(tmp_path, labels)) == 11
    repurposer.report(tmp_path.parent / "report.html", tmp_path, labels)
    assert f"repurposer.fit({str(tmp_path)!r}, labels)" in html.unescape((tmp_path.parent / "report.html").read_text())


def test_the_energy_of_two_classes_does_not_depend_on_their_order():
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (40, 28, 28), dtype=np.uint8)
    names = np.array(["ant", "bee"] * 20)
    energies = [out_of_distribution_scores(xfer2.LrRepurposer("zoo:mnist-cnn", "dense0", random_state=0).fit(
        images, labels).predict_uncertainty(images))["energy"] for labels in (names, np.where(names == "ant", "bee", "ant"))]
    np.testing.assert_allclose(*energies, atol=1e-6)
