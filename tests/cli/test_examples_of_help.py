"""Every command's help has an example, and it works as printed, one after another in a folder with photographs."""

import re
import subprocess

from xfer2.cli import app

MAKES = {"inspect": ["mnist-cnn.svg"], "extract": ["features.parquet"], "repurpose": ["photos-laplace/manifest.json"],
         "predict": ["predictions.csv"], "report": ["report.html"],
         "export": ["photos-mxnet-symbol.json", "photos-mxnet-0000.params"], "methods": [], "demo": []}


def test_examples_work_as_printed(photos, run, tmp_path, environment, monkeypatch):
    assert list(MAKES) == list(app._COMMANDS)
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.setenv("COLUMNS", "60")
    for command, files in MAKES.items():
        help_text = run(command, "--help").out
        example = re.search(r"Example:\n((?:    .*\n)+)", help_text)[1]
        done = subprocess.run(["bash", "-e", "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, (example, done.stderr)
        for file in files:
            assert (tmp_path / file).is_file(), (example, file)
