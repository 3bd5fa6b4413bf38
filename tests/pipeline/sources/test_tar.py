"""Members of archives, read in place: the same bytes as unpacked, and no broken archive passes."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.manifest import DatasetError
from pipeline.sources.tar import Members, list_members, list_nested

FILES = {"a/1.jpg": b"one" * 700, "b:2.jpg": b"", "c.cls": b"3"}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_every_file_is_read_where_it_lies(tmp_path: Path, tar: Callable, form: int) -> None:
    path = tmp_path / "with:colon 1:2.tar"
    long = {"x" * 90 + "/" + "y" * 90: b"a long name"} | FILES
    path.write_bytes(tar(long, form=form))
    members = list_members(path)
    assert {m.name: Members().read(m.location) for m in members} == long
    assert [m.name for m in members] == list(long)


def test_a_tar_within_a_tar(tmp_path: Path, tar: Callable) -> None:
    path = tmp_path / "outer.tar"
    path.write_bytes(tar({"first.tar": tar(FILES), "second.tar": tar({"z": b"last"})}))
    first, second = list_members(path)
    assert {m.name: Members().read(m.location) for m in list_nested(first)} == FILES
    assert [Members().read(m.location) for m in list_nested(second)] == [b"last"]


def test_only_regular_files_count_and_the_later_of_two(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"old")
    (tmp_path / "folder/link").symlink_to("file")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "folder", "folder")
        (tmp_path / "folder/file").write_bytes(b"newer")
        archive.add(tmp_path / "folder/file", "folder/file")
    (member,) = list_members(path)
    assert Members().read(member.location) == b"newer"


def test_a_stamp_tells_archive_and_place(tmp_path: Path, tar: Callable) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar(FILES))
    first, *_, last = (m.location for m in list_members(path))
    before = Members().stamp(first)
    assert before == Members().stamp(first) != Members().stamp(last)
    path.write_bytes(tar(FILES | {"more": b""}))
    assert Members().stamp(first) != before


def test_a_short_read_names_the_archive(tmp_path: Path, tar: Callable) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar(FILES))
    location = list_members(path)[0].location
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"x\.tar: the file ends after 488 of the 2100 bytes at 512"):
        Members().read(location)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda whole: b"", "empty file"),
        (lambda whole: b"\xff\xd8 no tar " * 100, "invalid header"),
        (lambda whole: whole[:100], "truncated header"),
        (lambda whole: whole[:1000], "unexpected end of data"),
        (lambda whole: whole[:3072], "no end mark in 3,072 bytes"),
        (lambda whole: whole[:3300], "no end mark in 3,300 bytes"),
        (lambda whole: whole[:3072] + b"#" * 9000, "no member's header at byte 3,072"),
    ],
)
def test_a_broken_archive_is_refused(
    tmp_path: Path, tar: Callable, edit: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(edit(tar(FILES)))
    with pytest.raises(
        DatasetError, match=rf"x\.tar: this is not a complete tar .*{reason}.*; download"
    ):
        list_members(path)


def test_every_cut_of_a_whole_archive_is_noticed(tmp_path: Path, tar: Callable) -> None:
    path, whole = tmp_path / "x.tar", tar(FILES)
    path.write_bytes(whole)
    end_of_files = list_members(path)[-1].offset + tarfile.BLOCKSIZE
    for length in range(0, end_of_files + tarfile.BLOCKSIZE, 128):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match="not a complete tar"):
            list_members(path)


def test_an_inner_archive_does_not_run_on_into_the_next(tmp_path: Path, tar: Callable) -> None:
    path, whole = tmp_path / "outer.tar", tar(FILES)
    for length in range(0, 4608, 256):
        path.write_bytes(tar({"cut.tar": whole[:length], "next.tar": tar({"other": b"x"})}))
        cut = list_members(path)[0]
        with pytest.raises(DatasetError, match=r"outer\.tar, cut\.tar: this is not a complete tar"):
            list_nested(cut)
