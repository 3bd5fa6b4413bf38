"""Text files as editors of all systems write them."""

import codecs
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.command import UserError
from alexnet.text import read_lines, read_names

NAMES = ["tench, Tinca tinca", "Löwe", "獅子", "قطة", "n01440764 tench"]
HIDDEN = ("Cc", "Cs", "Zl", "Zp")
NAME = st.text(
    st.characters(codec="utf-8", exclude_categories=HIDDEN, exclude_characters="\ufeff"),
    max_size=12,
)
ODD = st.characters(categories=("Cc", "Zl", "Zp"), exclude_characters="\t\n\r") | st.just("\ufeff")
ENCODINGS = {
    "utf-8": b"", "utf-8-sig": b"", "utf-16": b"", "utf-32": b"",
    "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE,
}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text") / "names.txt"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_come_back_as_they_are(file: Path, encoding: str, last: bool, end: str) -> None:
    text = end.join(NAMES) + end * last
    file.write_bytes(ENCODINGS[encoding] + text.encode(encoding))
    assert read_names(file, "names") == NAMES


WRITTEN = {
    "mark": st.sampled_from([b"", codecs.BOM_UTF8]),
    "end": st.sampled_from(["\n", "\r\n"]),
    "last": st.booleans(),
}


@given(names=st.lists(NAME, max_size=6), **WRITTEN)
def test_any_names_come_back(
    file: Path, names: list[str], mark: bytes, end: str, last: bool
) -> None:
    last = last or names[-1:] == [""]  # else nothing tells that there is such a line
    file.write_bytes(mark + (end.join(names) + end * (last and bool(names))).encode())
    assert read_lines(file, "names", "names") == names


@given(
    before=st.lists(NAME, max_size=3), name=NAME, odd=ODD, rest=NAME,
    after=st.lists(NAME, max_size=3), **WRITTEN,
)  # fmt: skip
def test_any_names_with_a_control_character_are_refused_by_file_and_line(
    file: Path, before: list[str], name: str, odd: str, rest: str, after: list[str],
    mark: bytes, end: str, last: bool,
) -> None:  # fmt: skip
    names = [*before, f"{name}x{odd}{rest}", *after]
    file.write_bytes(mark + (end.join(names) + end * last).encode())
    with pytest.raises(UserError) as refusal:
        read_lines(file, "names", "names")
    assert str(refusal.value).startswith(f"{file}, line {len(before) + 1}: ")
    assert f"the control character U+{ord(odd):04X};" in str(refusal.value)


@pytest.mark.parametrize(("encoding", "byte"), [("latin-1", "0xF6"), ("cp1252", "0xF6")])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_another_encoding_is_refused_with_the_line(
    file: Path, encoding: str, byte: str, end: str
) -> None:
    file.write_bytes(end.join(["cat", "dog", "Löwe", "bär"]).encode(encoding))
    with pytest.raises(UserError) as refusal:
        read_names(file, "names")
    assert str(refusal.value) == (
        f"{file}, line 3: the class names are not in UTF-8 (byte {byte}); save the file as UTF-8"
    )


def test_a_cut_text_in_utf_16_is_refused(file: Path) -> None:
    file.write_bytes("cat\ndog".encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"line 2: the class names are not in UTF-16-LE"):
        read_names(file, "names")


@pytest.mark.parametrize(
    "character", [*map(chr, range(9)), "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff"]
)
def test_control_characters_are_refused(file: Path, character: str) -> None:
    file.write_text(f"cat\nd{character}og\n", "utf-8")
    with pytest.raises(UserError, match=rf"line 2: .* control character U\+{ord(character):04X}"):
        read_names(file, "names")


TENCH = {0: "tench, Tinca tinca", 1: "goldfish"}
INDEX = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}


@pytest.mark.parametrize(
    "text",
    [
        str(TENCH), json.dumps(TENCH), str(INDEX), json.dumps(list(INDEX.values())), "{}",
        str(list(TENCH.values())), json.dumps(list(TENCH.values()), indent=1), str(tuple(INDEX)),
        str(TENCH).replace(", 1", ",\n 1"), "\n\n" + str(TENCH), "0: tench\n1: goldfish\n",
        "0: 'tench, Tinca tinca',\n1: 'goldfish'\n", '"0": "tench",\n\n"1": "goldfish"',
        "<!DOCTYPE html>\n<html>", "<html>",
    ],
)  # fmt: skip
def test_dictionaries_lists_and_pages_are_no_names(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(UserError, match=r"names.txt, line \d: .* begins a dictionary, a list or"):
        read_names(file, "names")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_class_index_is_read_in_the_order_of_its_numbers(
    file: Path, indent: int | None, encoding: str
) -> None:
    names = {str(n): [f"n{n:08}", f"class\t{n}, Löwe"] for n in reversed(range(12))}
    text = json.dumps(names, indent=indent, ensure_ascii=indent is None).replace("\\t", " ")
    file.write_bytes(text.encode(encoding))
    assert read_names(file, "names") == [f"n{n:08} class {n}, Löwe" for n in range(12)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (json.dumps(INDEX).replace('"1"', '"2"'), '2 classes, but none is "1"; number them "0" to'),
        (json.dumps(INDEX).replace('"0"', '"-1"'), 'none is "0"; number them "0" to "1"'),
        (json.dumps(INDEX).replace('"0"', '"00"'), 'none is "0"'),
        (json.dumps(INDEX).replace('"1"', '"0"'), '"0" is there twice; keep one of them'),
        (json.dumps(INDEX).replace("n01443537", "n01440764"), "n01440764 is there twice; keep"),
        ('{"0": ["n01440764"]}', '"0": write ["ID", "name"], the ID without spaces'),
        ('{"0": ["n01440764", "tench", "x"]}', '"0": write ["ID", "name"]'),
        ('{"0": ["n0144 0764", "tench"]}', '"0": write ["ID", "name"]'),
        ('{"0": ["n01440764", 1]}', '"0": write ["ID", "name"]'),
        ('{"0": ["n01440764", ""]}', '"0": write ["ID", "name"]'),
        ('{"0": ["n01440764", "a\\nb"]}', '"0": write ["ID", "name"]'),
        ('{"0": []}', '"0": write ["ID", "name"]'),
    ],
)
def test_a_class_index_with_a_fault_is_refused(file: Path, text: str, fault: str) -> None:
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(fault)):
        read_names(file, "names")


@pytest.mark.parametrize("name", ["0 tench", "3D: printer", "12:30", "a {b}", "cat (tabby)"])
def test_names_that_only_look_like_one_are_taken(file: Path, name: str) -> None:
    file.write_text(f"cat\n{name}\n")
    assert read_names(file, "names") == ["cat", name]
