"""The page says what the evidence does, and needs no other file."""

from pathlib import Path

from tests.trainer.evaluation.report.test_page import Parsed
from trainer.paper import evidence, page
from trainer.paper.experiment import Result, Row
from trainer.paper.figure1 import Figure1


def found(row: Row) -> Result:
    return {"errors": [0.5, 0.3, 0.2] if row.settings["activation"] == "relu" else [0.7, 0.6]}


def test_all_that_was_found_is_on_it(figure: Figure1, tmp_path: Path) -> None:
    paths = evidence.write(figure, found, "quick", 2, tmp_path)
    assert all(path.stat().st_size for path in paths)
    kept = evidence.Evidence.model_validate_json(paths[0].read_text())
    assert [row.found for row in kept.rows] == [found(row) for row in figure.rows(found)]
    html = Parsed(page.write(tmp_path).read_text())
    text = " ".join(html.text.split())
    assert kept.command in text
    assert all(paragraph in text for paragraph in kept.paragraphs)
    assert all(cell in text for row in kept.table.rows for cell in row)
    assert html.elements.count("img") == 1
    assert all(address.startswith(("#", "data:")) for address in html.addresses)
