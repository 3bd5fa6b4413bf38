"""Names that no dataset can hold are refused before anything is packed."""

import os
import re
from pathlib import Path

import pytest

from alexnet.command import UserError
from pipeline.sources import builtin, open_source
from pipeline.sources.class_names import read_class_names
from pipeline.sources.folder import folder_source

ODD = [
    (b"l\xf6we", r"class l\xf6we: this name is not in UTF-8; rename its folder"),
    ("獅子".encode("shift_jis"), r"this name is not in UTF-8; rename its folder"),
    (b"a\nb", r"class 'a\nb': this name contains the control character U+000A; rename it"),
    (b"a\tb", "the control character U+0009"),
    (b"a\x1b[31m", "the control character U+001B"),
    (b"a\x7f", "the control character U+007F"),
    ("a\u2028b".encode(), "the control character U+2028"),
    ("\ufeffa".encode(), "the control character U+FEFF"),
]


def folder(root: Path, *classes: bytes) -> Path:
    for name in classes:
        place = root / os.fsdecode(name)
        place.mkdir()
        for number in range(2):
            (place / f"{number}.jpg").write_bytes(builtin.draw(str(number), seed=1))
    return root


@pytest.mark.parametrize(("name", "text"), ODD)
def test_a_class_folder_with_such_a_name(tmp_path: Path, name: bytes, text: str) -> None:
    with pytest.raises(UserError, match=re.escape(text)):
        open_source(str(folder(tmp_path, name, b"cat")), 0.1, None)


def test_a_folder_that_is_read_in_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not in UTF-8"):
        folder_source(folder(tmp_path, b"l\xf6we", b"cat"), 0.1, {})


def test_names_of_any_language(tmp_path: Path) -> None:
    names = ["cat", "Löwe", "قطة", "獅子"]
    source = open_source(str(folder(tmp_path, *map(str.encode, names))), 0.1, None)
    assert sorted(label.id for label in source.classes) == sorted(names)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_of_another_editor(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "names.txt").write_bytes(f"cat Katze{end}dog\tHund{end}".encode(encoding))
    assert read_class_names(tmp_path / "names.txt") == {"cat": "Katze", "dog": "Hund"}


def test_a_list_of_any_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a b\n")
    os.truncate(tmp_path / "names.txt", 10**11)
    for path, size in ((tmp_path / "names.txt", "100,000,000,000"), (Path("/dev/zero"), "more")):
        text = f"{path}: the class names cannot be read .it has {size} bytes; the limit is 16,000,0"
        with pytest.raises(UserError, match=text):
            read_class_names(path)


@pytest.mark.parametrize(
    "line",
    [
        "Label, Latin Name            , Common Name              , Train Images",
        "n0   , alouatta_palliata\t, mantled_howler           , 131",
        "n0,barn spider",
        "n0;Common name",
        "0 | cat | 12",
    ],
)
def test_a_line_of_a_table_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "names.txt").write_text(f"a1 ant\n{line}\n")
    with pytest.raises(UserError, match=r"names.txt, line 2: .* is not `ID name`"):
        read_class_names(tmp_path / "names.txt")
