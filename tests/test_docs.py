"""The documents' code runs as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def python_blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def printed_by(page, folder):
    """What a page's blocks print, run one after another in a folder."""
    script = "\n".join(python_blocks(ROOT / "docs" / page))
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False,
                          env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quick_start_runs_as_printed(tmp_path):
    said = printed_by("quickstart.md", tmp_path)
    assert (tmp_path / "features.parquet").is_file()
    assert re.search(r"0\.9\d+|1\.0", said), said


def test_the_page_on_training_runs_as_printed(tmp_path):
    assert "killed after three epochs" in printed_by("training.md", tmp_path)
    assert {"run.csv", "history.png", "three-0000.params"} <= {path.name for path in tmp_path.iterdir()}


def test_the_page_for_xfers_users_runs_as_printed(tmp_path):
    printed_by("from-xfer.md", tmp_path)
    assert (tmp_path / "parity" / "manifest.json").is_file()


def test_the_page_on_filters_runs_as_printed_and_writes_its_picture(tmp_path):
    printed_by("filters.md", tmp_path)
    with Image.open(tmp_path / "filters.png") as written, Image.open(ROOT / "docs" / "filters.png") as printed:
        assert written.size == printed.size


def test_links_of_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
