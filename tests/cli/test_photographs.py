"""A folder of photographs and a network trained on ImageNet: extract, repurpose, predict, report, from a clean shell."""

import subprocess
import sys
from pathlib import Path

import pandas
import pytest

LINES = """
xfer2 extract {model} {photos} --layers fire9_concat,pool_final --pool avg -o features.parquet
xfer2 repurpose {model} {photos} --method gp --layers pool_final -o out
xfer2 predict out {photos} -o predictions.csv --uncertainty --coverage 0.7 --abstain-risk 0.4
xfer2 report out {photos} -o report.html
"""


@pytest.mark.slow
def test_the_four_commands_one_after_another(shared, photos, tmp_path):
    lines = LINES.format(model=shared / "models" / "squeezenet1.0-imagenet", photos=photos)
    clean = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-e", "-c", lines], cwd=tmp_path, env=clean, text=True, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "gp on 12 images it has not seen, of 2 classes:" in done.stdout
    features = pandas.read_parquet(tmp_path / "features.parquet")
    assert features.shape == (60, 2 + 512 + 1000)
    predictions = pandas.read_csv(tmp_path / "predictions.csv")
    truth = predictions["file"].str.partition("/")[0]
    assert (predictions["label"] == truth).mean() > 0.9
    assert predictions[["entropy", "aleatoric", "epistemic", "out_of_distribution"]].notna().all(axis=None)
    assert "<svg" in (tmp_path / "report.html").read_text()
