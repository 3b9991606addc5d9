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


def test_quick_start_runs_as_printed(tmp_path):
    script = "\n".join(python_blocks(ROOT / "docs" / "quickstart.md"))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "features.parquet").is_file()
    assert re.search(r"0\.9\d+|1\.0", done.stdout), done.stdout


def test_the_page_on_training_runs_as_printed(tmp_path):
    script = "\n".join(python_blocks(ROOT / "docs" / "training.md"))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr
    assert "killed after three epochs" in done.stdout
    assert {"run.csv", "history.png", "three-0000.params"} <= {path.name for path in tmp_path.iterdir()}


def test_the_page_on_filters_runs_as_printed_and_writes_its_picture(tmp_path):
    (script,) = python_blocks(ROOT / "docs" / "filters.md")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "filters.png") as written, Image.open(ROOT / "docs" / "filters.png") as printed:
        assert written.size == printed.size


def test_links_of_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
