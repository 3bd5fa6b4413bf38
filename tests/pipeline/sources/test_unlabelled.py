"""Photographs are found wherever they lie, in an order that their names alone decide."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from alexnet.command import UserError
from pipeline.sources.unlabelled import photographs

FOLDER = {
    "b.jpg": b"1", "a.png": b"2", "no-ending": b"3", "captions.txt": b"", ".hidden.jpg": b"",
    "cats/deep/2.jpg": b"5", "cats/10.jpg": b"4", "dogs/1.jpg": b"6", "@eaDir/thumb.jpg": b"",
}  # fmt: skip


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def listed(*sources: object) -> list[tuple[str, str | None, bytes]]:
    return [
        (p.path, p.member, p.reader.read(p.location)) for p in photographs([*map(str, sources)])
    ]


def test_a_folder_of_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path / "mine", FOLDER)
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "b.jpg", "no-ending", "cats/10.jpg", "cats/deep/2.jpg", "dogs/1.jpg"]
    expected = [(f"mine/{name}", None, FOLDER[name]) for name in names]
    assert listed("mine/") == expected
    assert capsys.readouterr().err == "mine: left out: .txt (1), @eaDir/ (1)\n"
    assert listed("mine/dogs", "mine/b.jpg") == [expected[5], expected[1]]
    monkeypatch.chdir("mine")
    assert [path for path, _, _ in listed(".")] == names
    monkeypatch.chdir("cats")
    assert [path for path, _, _ in listed("..")] == [f"../{name}" for name in names]


def test_each_directory_once_however_it_is_linked(tmp_path: Path) -> None:
    root = folder(tmp_path / "root", {"z/1.jpg": b"1", "z/y/2.jpg": b"2"})
    elsewhere = folder(tmp_path / "elsewhere", {"3.jpg": b"3"})
    for name, target in {
        "again": root / "z",
        "up": tmp_path,
        "all": Path("/"),
        "a": elsewhere,
    }.items():
        (root / name).symlink_to(target)
    (root / "z" / "loop").symlink_to("..")
    assert [content for _, _, content in listed(root)] == [b"1", b"2", b"3"]


def test_members_of_tars(tmp_path: Path, tar: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """WebDataset shards, plain photographs, tars in a tar as ILSVRC-2012 has them."""
    shard = {
        "b/1.jpg": b"one",
        "b/1.cls": b"0",
        "./a.png": b"two",
        "._a.png": b"",
        "x/.y/z.jpg": b"",
    }
    files = {"0.tar": tar(shard), "1.tar": tar({"n01.tar": tar({"n01_1.JPEG": b"three"})})}
    root = folder(tmp_path / "shards", files | {"old.tar.gz": b"not opened", "9.jpg": b"four"})
    assert [row[1:] for row in listed(root)] == [
        ("b/1.jpg", b"one"), ("a.png", b"two"), ("n01.tar/n01_1.JPEG", b"three"), (None, b"four"),
    ]  # fmt: skip
    assert capsys.readouterr().err == f"{root}: left out: .cls (1), .gz (1)\n"
    assert listed(root / "1.tar") == [(str(root / "1.tar"), "n01.tar/n01_1.JPEG", b"three")]


def test_a_compressed_tar(tmp_path: Path, tar: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = folder(tmp_path / "mine", {"photos.tar.gz": tar({"1.jpg": b"one"}, mode="w:gz")})
    path /= "photos.tar.gz"
    assert listed(path) == listed(path.parent) == [(str(path), "1.jpg", b"one")]


def test_drawn_images_have_keys() -> None:
    first = next(photographs(["builtin"]))
    assert first.path == "builtin"
    assert first.member
    assert first.reader.read(first.location).startswith(b"\xff\xd8")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"1")
    ((path, _, content),) = listed(tmp_path)
    assert os.fsencode(path).endswith(b"caf\xe9.jpg")
    assert content == b"1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent", "there is no such file or folder; give photographs, folders or tars"),
        ("photos.zip", "a file named .zip is neither a photograph nor a tar"),
        ("broken.tar", "this is not a complete tar archive"),
    ],
)
def test_what_is_no_source(tmp_path: Path, name: str, text: str) -> None:
    folder(tmp_path, {"photos.zip": b"PK", "broken.tar": b"broken" * 200})
    with pytest.raises(UserError, match=text) as raised:
        listed(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
