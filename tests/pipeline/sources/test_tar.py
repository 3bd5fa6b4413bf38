"""Members of archives, read in place: the same bytes as unpacked, and no broken archive passes."""

import contextlib
import functools
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.pixels import ImageError
from pipeline.manifest import DatasetError
from pipeline.sources.tar import Members, list_members, list_nested, list_places

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


def test_the_later_of_two_of_one_name_counts(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"old")
    os.mkfifo(tmp_path / "folder/pipe")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "folder", "folder")
        (tmp_path / "folder/file").write_bytes(b"newer")
        archive.add(tmp_path / "folder/file", "folder/file")
    (member,) = list_members(path)
    assert Members().read(member.location) == b"newer"


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"])
def test_what_tar_writes_is_what_it_unpacks(tmp_path: Path, form: str) -> None:
    """Links too, and names as long as the format allows."""
    long = "" if form == "v7" else "y" * 90
    files = {f"{'x' * 60}/{long or 'z'}": b"one" * 700, "ä/2.jpg": b"", "c/d.e.cls": b"3"}
    for name, data in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "in/c/hard").hardlink_to(tmp_path / "in/ä/2.jpg")
    (tmp_path / "in/ä/first").symlink_to("second")
    (tmp_path / "in/ä/second").symlink_to("../c/d.e.cls")
    command = ["tar", f"--format={form}", "-cf", tmp_path / "x.tar", "-C", tmp_path / "in", "."]
    subprocess.run(command, check=True)
    found = {m.name: Members().read(m.location) for m in list_members(tmp_path / "x.tar")}
    linked = {"c/hard": b"", "ä/first": b"3", "ä/second": b"3"}
    assert found == {f"./{name}": data for name, data in (files | linked).items()}


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(
    files=st.dictionaries(
        NAMES.map(lambda name: name.strip("/") or "a") | st.just("n" * 300),
        st.binary(max_size=1500),
    ),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_are_those_that_tarfile_lists(
    tar: Callable, files: dict[str, bytes], form: int
) -> None:
    whole = tar(files, form=form)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        expected = {m.name: (m.offset_data, m.size) for m in archive}
    assert list_places(io.BytesIO(whole), 0, len(whole), "x.tar") == expected


class CountedReads(io.BytesIO):
    """A file that counts what is read of it."""

    calls = length = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.calls, self.length = self.calls + 1, self.length + len(data)
        return data


@functools.cache
def varied(form: int) -> bytes:
    """An archive with a header of nearly every type."""
    whole, long = io.BytesIO(), "n" * 150
    members = {
        "d": (tarfile.DIRTYPE, ""), "d/a": (tarfile.REGTYPE, ""), long: (tarfile.REGTYPE, ""),
        "hard": (tarfile.LNKTYPE, "d/a"), "soft": (tarfile.SYMTYPE, long),
    }  # fmt: skip
    common = {"comment": "for all"} if form == tarfile.PAX_FORMAT else None
    with tarfile.open(fileobj=whole, mode="w", format=form, pax_headers=common) as archive:
        for name, (kind, target) in members.items():
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            header.size = 700 if kind == tarfile.REGTYPE else 0
            archive.addfile(header, io.BytesIO(bytes(range(250)) * 3))
    return whole.getvalue()


FIELDS = st.sampled_from([0, 100, 124, 125, 130, 135, 148, 156, 157, 257, 345])
ODD = st.sampled_from(
    [
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"-0000000512",
        b"77777777777",
        *(bytes([kind]) for kind in b"LKxgS12V0"),
    ]
)


@given(
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    edits=st.lists(
        st.tuples(st.integers(0, 30), FIELDS | st.integers(0, 511), ODD | st.binary(max_size=12)),
        max_size=4,
    ),
    cut=st.none() | st.integers(0, 20_000),
)
@settings(max_examples=400)
def test_no_archive_is_read_for_ever(
    form: int, edits: list[tuple[int, int, bytes]], cut: int | None
) -> None:
    """Whatever its headers say: refused, or places within it, no byte read often."""
    whole = bytearray(varied(form))
    for number, at, value in edits:
        start = number * tarfile.BLOCKSIZE % len(whole)
        block = whole[start : start + tarfile.BLOCKSIZE]
        block[at : at + len(value)] = value
        del block[tarfile.BLOCKSIZE :]
        checked(block)
        whole[start : start + tarfile.BLOCKSIZE] = block
    del whole[len(whole) if cut is None else cut :]
    file = CountedReads(whole)
    with contextlib.suppress(DatasetError):
        for place in list_places(file, 0, len(whole), "x.tar").values():
            assert place.size >= 0
            assert 0 <= place.offset <= place.offset + place.size <= len(whole)
    assert file.calls <= 3 * len(whole) / tarfile.BLOCKSIZE + 3
    assert file.length <= 2 * len(whole)


def checked(header: bytearray) -> None:
    """Correct the checksum of a header."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)


def raw(name: str, size: bytes, kind: bytes = b"0", data: bytes = b"", target: str = "") -> bytes:
    """One member; its size is what the header says, not what its data has."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[156:157] = size.ljust(12, b"\0"), kind
    header[157 : 157 + len(target)] = target.encode()
    checked(header)
    return bytes(header) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def octal(size: int) -> bytes:
    return b"%011o" % size


def with_records(records: bytes, kind: bytes = b"x") -> bytes:
    return raw("records", octal(len(records)), kind, records) + raw("a", octal(3), data=b"abc")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (raw("a", b"\xff" * 11 + b"\0"), "a should have -256 bytes"),
        (raw("a", b"\xff" * 12), "a should have -1 bytes"),
        (raw("a", b"-0000000512"), "a should have -330 bytes"),
        (raw("a", b"99"), "invalid header"),
        (raw("a", b"\x80" + b"\xff" * 11), "a should have 309,485,009,821,345,068"),
        (raw("a", octal(8**11 - 1)), "unexpected end of data"),
        (raw("a", octal(10**9), b"L"), "a has a name or records of 1,000,000,000 bytes"),
        (raw("a", b"\xff" * 12, b"x"), "a should have -1 bytes"),
        (raw("a", octal(2**21), b"L", bytes(2**21)), "a has a name or records of 2,097,152 bytes"),
        (raw("a", octal(2**21), b"x", bytes(2**21)), "a has a name or records of 2,097,152 bytes"),
        (raw("n", octal(2), b"L", b"b\0") * 5000, "a member with hundreds of headers"),
        (with_records(b"11 size=-1\n"), "no member's header at byte 1,536"),
        (with_records(b"14 size=-1536\n"), "the size of a leads back"),
        (with_records(b"14 size=99999\n"), "unexpected end of data"),
        (with_records(b"11 size=10\n", b"g"), "one size for all members"),
        (with_records(b"0 size=10\n"), "invalid header"),
        (with_records(b"9999 size=10\n"), "no member's header at byte 1,536"),
        (with_records(b"1" * 900_000), "invalid records"),
        (with_records(b"22 GNU.sparse.major=1\n"), "a is a sparse file"),
        (raw("a", octal(3), b"S", b"abc"), "a is a sparse file"),
        (raw("a", b"", b"1", target="b"), "a is a link to b, which is no file in the archive"),
        (raw("a", b"", b"1", target="a"), "a is a link to a, which is no file in the archive"),
        (raw("a", b"", b"2", target="../b"), "a is a link to ../b, which is no file in"),
        (raw("a", b"", b"2", target="/etc/passwd"), "a is a link to /etc/passwd, which is no file"),
        (raw("a", b"", b"2", target="b") + raw("b", b"", b"2", target="a"), "a is a link to b"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content + bytes(1024))
    with pytest.raises(DatasetError, match=f"x\\.tar: .*{re.escape(reason)}.*; (download|write)"):
        list_members(path)


def test_a_large_hole_is_no_photograph(tmp_path: Path) -> None:
    """A hundred gigabytes that take no room on the disk, as a member and as the archive."""
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(raw("a", octal(8 * 10**9)))
        file.truncate(10**11)
    (member,) = list_members(path)
    with pytest.raises(ImageError, match="has 8,000,000,000 bytes; the limit is") as refused:
        Members().read(member.location)
    assert refused.value.kind == "too-large"
    os.truncate(path, 0)
    os.truncate(path, 10**11)
    assert list_members(path) == []


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
