"""The table and the contact sheet of a dataset."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.dataset import Dataset
from pipeline.photographs import index_photographs
from pipeline.sheet import CELL, DRAWS, GAP, HEAD, IMAGES
from pipeline.sources.folder import folder_source
from pipeline.table import describe, uneven


def test_the_table_says_what_is_in_it(dataset: Path) -> None:
    text = describe(Dataset(dataset))
    assert "108 for training, 12 for validation" in text
    assert "128 x 128 pixels, bicubic, JPEG 90" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("disc", "ring"))]
    assert [row[:3] for row in rows] == [["disc", "36", "4"], ["ring", "36", "4"]]
    assert len(rows[0][3]) == 40  # the largest class has the longest bar


def test_the_sheet_shows_the_images_and_their_draws(
    dataset: Path, tmp_path: Path, run: Callable
) -> None:
    path = tmp_path / "sheet.png"
    done = run("pipeline", "show", dataset, "--sheet", path)
    assert done.returncode == 0, done.stderr
    assert f"{path} shows what the network sees" in done.stdout
    sheet = np.asarray(Image.open(path)).astype(int)
    cells = np.stack(
        [
            sheet[y : y + CELL, x : x + CELL]
            for y in (HEAD + GAP + row * (CELL + GAP) for row in range(IMAGES))
            for x in (GAP + column * (CELL + GAP) for column in range(DRAWS + 1))
        ]
    ).reshape(IMAGES, DRAWS + 1, CELL, CELL, 3)
    assert (cells.std(axis=(2, 3, 4)) > 5).all()  # none is empty
    colours = cells.mean(axis=(2, 3))
    within = np.abs(colours - colours[:, :1]).mean()
    between = np.abs(colours - colours[:1]).mean()
    assert 0 < within < between / 2  # a row is one image, varied


def test_a_crop_larger_than_the_images(dataset: Path, tmp_path: Path, run: Callable) -> None:
    done = run("pipeline", "show", dataset, "--crop", 129, "--sheet", tmp_path / "sheet.png")
    assert done.returncode == 2
    assert "--crop is 129, but the images are 128 wide" in done.stderr


def test_uneven_classes_are_named(photographs: Path, dataset: Path, tmp_path: Path) -> None:
    assert uneven(Dataset(dataset)) == []
    for name, count in (("disc", 40), ("ring", 3)):
        (tmp_path / "folder" / name).mkdir(parents=True)
        for path in sorted((photographs / name).iterdir())[:count]:
            (tmp_path / "folder" / name / path.name).symlink_to(path)
    source = folder_source(tmp_path / "folder", 0.1, {})
    listed = index_photographs(source, tmp_path / "listed", 72)
    (line,) = uneven(listed)
    assert line.startswith(
        "the classes are uneven: disc has 36 training images, ring 2; `alexnet train --balance"
    )
    assert describe(listed).endswith(line)
