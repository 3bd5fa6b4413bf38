"""Files of strangers: none is waited for, none is read beyond its bound, none says two things."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet import regular


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)


def growing(path: Path) -> None:
    """It says that it is empty."""
    path.symlink_to("/proc/self/maps")


@pytest.mark.parametrize("make", [pipe, bound_socket, device, loop, sparse, growing, Path.mkdir])
def test_what_is_no_file_of_that_length_is_refused_at_once(tmp_path: Path, make: Callable) -> None:
    make(tmp_path / "x")
    with pytest.raises(OSError, match=r"\S"):
        regular.read(tmp_path / "x", 1000)


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"whole")
    (tmp_path / "link").symlink_to("file")
    assert regular.read(tmp_path / "link", 5) == b"whole"
    with pytest.raises(OSError, match="it has 5 bytes; the limit is 4"):
        regular.read(tmp_path / "link", 4)


@given(first=st.binary(max_size=2000), second=st.binary(max_size=2000))
def test_a_private_copy_stays_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "original"
    path.write_bytes(first)
    with regular.open_regular(path) as file, regular.private_copy(file) as copy:
        path.write_bytes(second)
        assert copy.read() == first
        for change in (lambda of: os.ftruncate(of, 5000), lambda of: os.write(of, b"x")):
            with pytest.raises(OSError, match="not permitted"):
                change(copy.fileno())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'[{"b": {"c": 1, "d": 2, "c": 1}}]', "'c' is given twice"),
        (b"[NaN]", "NaN is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"[1e999]", "1e999 is not a finite number"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "digits"),
        (b"\xff", "codec"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_says_two_things_or_none_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        regular.parsed(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(value=JSON)
def test_other_json_is_what_it_says(value: object) -> None:
    assert regular.parsed(json.dumps(value).encode()) == value
