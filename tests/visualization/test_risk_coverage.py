"""The curves are those of the selective module, their areas in the legend."""

import numpy as np
import pytest

from xfer2.exceptions import ParameterError
from xfer2.uncertainty.selective import area_under_risk_coverage, risk_coverage_curve
from xfer2.visualization import plot_risk_coverage

WRONG = np.array([False, True, False, True, False])
MEASURES = {"entropy": [0.1, 0.9, 0.2, 0.8, 0.3], "distance": [0.5, 0.1, 0.2, 0.4, 0.3]}


def test_one_curve_a_measure_with_its_area(given):
    ax = plot_risk_coverage(MEASURES, WRONG, given)
    assert ax is given
    random, *curves = ax.get_lines()
    assert set(random.get_ydata()) == {0.4}
    for line, (name, values) in zip(curves, MEASURES.items(), strict=True):
        np.testing.assert_array_equal(line.get_data(), risk_coverage_curve(values, WRONG))
        assert line.get_label() == f"{name}, area {area_under_risk_coverage(values, WRONG):.3f}"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [line.get_label() for line in ax.get_lines()]
    assert ax.get_xlabel() == "coverage: share of rows answered"
    assert ax.get_ylabel() == "risk: share of those wrong"


def test_an_array_is_one_curve():
    ax = plot_risk_coverage(MEASURES["entropy"], WRONG)
    assert [line.get_label() for line in ax.get_lines()][1:] == [
        f"area {area_under_risk_coverage(MEASURES['entropy'], WRONG):.3f}"]


def test_no_measure_is_an_error():
    with pytest.raises(ParameterError, match="uncertainty must be an array or a mapping of names to arrays"):
        plot_risk_coverage({}, WRONG)


def test_measures_of_long_names_are_told_apart():
    ax = plot_risk_coverage(dict.fromkeys(["mahalanobis distance, layer 1, tied covariance",
                                           "mahalanobis distance, layer 2, tied covariance"], MEASURES["entropy"]), WRONG)
    assert len({line.get_label() for line in ax.get_lines()}) == 3


def test_names_that_matplotlib_would_read_otherwise_are_in_the_legend():
    ax = plot_risk_coverage({"_hidden": MEASURES["entropy"], "$\\bad{$": MEASURES["distance"]}, WRONG)
    ax.figure.draw_without_rendering()
    names = [text.get_text().rpartition(",")[0].strip() for text in ax.get_legend().get_texts()[1:]]
    assert names == ["_hidden", r"\$\bad{\$"]
