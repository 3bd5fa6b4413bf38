"""Opening datasets, and refusing what is none."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"manifest.json: No such file .*alexnet pack SOURCE"):
        Dataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "the dataset has version 2, but this program reads version 1; pack"),
        ({"colour": 7}, "colour is 7: "),
        ({"surprise": 1}, "there is no field surprise"),
    ],
)
def test_another_version_or_a_changed_manifest(
    dataset: Path, tmp_path: Path, change: dict, text: str
) -> None:
    fields = json.loads((dataset / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(fields | change))
    with pytest.raises(DatasetError, match=text):
        Dataset(tmp_path)


def test_the_digest_names_the_content_not_the_place(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    assert Dataset(copy).digest == Dataset(dataset).digest
