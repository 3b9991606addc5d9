"""What ``import xfer2`` offers: sorted, complete, lazy, and the same version everywhere."""

import re
from pathlib import Path

import pytest

import xfer2
from xfer2 import model_handler
from xfer2.repurposers._base import Repurposer
from xfer2.repurposers._registry import METHODS

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("package", [xfer2, model_handler], ids=["xfer2", "model_handler"])
def test_public_names_are_sorted_and_exist(package):
    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__
        assert name in dir(package)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'LrRepurposr'"):
        _ = xfer2.LrRepurposr


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_is_exported_under_its_own_name(method):
    cls = method.load_class()
    assert cls is getattr(xfer2, method.class_name)
    assert issubclass(cls, Repurposer)
    assert cls.method == method.name


def test_version_is_the_same_everywhere():
    stated = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))[1]
    assert xfer2.__version__ == stated
    assert f"## {stated}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
