"""What JPEG costs: decibels by hand, the table from the real command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alexnet.config import AlexNetConfig
from tests.benchmarks.loader.encodings import CODINGS, main, psnr_db
from tests.benchmarks.serving import trial


@pytest.fixture
def model(photographs: Path, tmp_path: Path) -> Path:
    """Random weights for the three classes of `photographs`."""
    ids = sorted(path.name for path in photographs.iterdir())
    trial.publish(tmp_path, AlexNetConfig(classes=3, width=0.1, crop=64), seed=0, ids=ids)
    return tmp_path / trial.NAME


def test_psnr_is_of_the_summed_squared_error() -> None:
    """Errors 3 and 4 among 8 values: 10 log10(255² / (25 / 8)) dB, not a mean of two decibels."""
    before = [np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)]
    after = [before[0].copy(), before[1].copy()]
    assert psnr_db(before, after) is None
    after[0][0, 0], after[1][1, 1] = 3, 251
    assert psnr_db(before, after) == pytest.approx(43.1823, abs=1e-4)


@pytest.mark.slow
def test_a_table_and_one_line_of_json(photographs: Path, model: Path, run: Callable) -> None:
    done = run("tests.benchmarks.loader.encodings", photographs, model, "--limit", 6)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    result = json.loads(last)
    assert (result["pictures"], result["size"]) == (6, 64 + trial.MARGIN)
    row = {row["coding"]: row for row in result["rows"]}
    assert list(row) == list(CODINGS)
    lossless = row["lossless (PNG)"]
    assert lossless["psnr_db"] is None
    assert lossless["changed"] == 0
    psnr = [row[f"JPEG {quality}, 4:2:0"]["psnr_db"] for quality in (75, 85, 90, 95)]
    assert psnr == sorted(psnr)
    assert row["JPEG 90, 4:4:4"]["psnr_db"] > row["JPEG 90, 4:2:0"]["psnr_db"]
    assert row["JPEG 90, 4:4:4"]["bytes_per_image"] > row["JPEG 90, 4:2:0"]["bytes_per_image"]
    assert all(each["decoded_per_core_s"] > 0 for each in result["rows"])
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(CODINGS)
    assert f"| {lossless['top1']} = {100 * lossless['top1'] / 6:.2f} % | 0 |" in table[2]


def test_a_model_of_other_classes_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["builtin", str(model)]) == 2
    assert "have different classes" in capsys.readouterr().err
