"""Rows that are finished."""

from pathlib import Path

from trainer.paper.experiment import Place, Result, Row, Settings
from trainer.paper.rows import Rows


def double(settings: Settings, place: Place) -> Result:
    return {"twice": 2 * settings["number"]}


def row(number: int, name: str = "a row") -> Row:
    return Row(name, double, {"number": number}, Path("anywhere"))


def test_a_row_is_found_by_what_it_depends_on(tmp_path: Path) -> None:
    rows = Rows(tmp_path)
    assert rows.found(row(1)) is None
    rows.keep(row(1), {"twice": 2})
    assert rows.found(row(1, "another name")) == {"twice": 2}
    assert rows.found(row(2)) is None


def test_the_same_row_has_the_same_bytes(tmp_path: Path) -> None:
    one = Row("one", double, {"b": 1.5, "a": (1, 2)}, tmp_path)
    same = Row("the same", double, {"a": [1, 2], "b": 1.5}, tmp_path / "elsewhere")
    assert one.key == same.key
    files = []
    for row_of, folder in ((one, "a"), (same, "b")):
        rows = Rows(tmp_path / folder)
        rows.keep(row_of, {"twice": 3})
        files.append(rows.path(row_of).read_bytes())
    assert files[0] == files[1]
