"""An index that is damaged, or another model's, is not read."""

import shutil
from pathlib import Path

import pytest

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.similar import FILES, FOLDER, read_about


def test_a_model_without_an_index(indexed: Path, tmp_path: Path) -> None:
    assert read_about(tmp_path, checkpoint.load(indexed).about) is None


@pytest.fixture
def copy(indexed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(indexed, tmp_path / "copy")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_or_a_missing_file_is_refused(copy: Path, name: str) -> None:
    about, path = checkpoint.load(copy).about, copy / FOLDER / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=rf"{name}: the file is damaged: its SHA-256 is .*; build the index again"
    ):
        read_about(copy, about)
    path.unlink()
    with pytest.raises(
        UserError, match=rf"{name}: No such file or directory; build the index again"
    ):
        read_about(copy, about)


def test_other_weights_are_refused(copy: Path) -> None:
    about = checkpoint.load(copy).about.model_copy(update={"weights_sha256": "e" * 64})
    with pytest.raises(
        UserError, match=r"built for the weights .*, but the model's are eeeeeeeeeeee…"
    ):
        read_about(copy, about)


def test_an_about_file_of_another_version_is_refused(copy: Path) -> None:
    path = copy / FOLDER / "about.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(
        UserError, match=r"about.json: version is 2: expected 1; build the index again"
    ):
        read_about(copy, checkpoint.load(copy).about)
