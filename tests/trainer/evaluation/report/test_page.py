"""The page: what it says is what `evaluate` prints, and it needs no other file and no network."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet import checkpoint
from alexnet.command import UserError
from pipeline.dataset import Dataset
from tests.browser import MISSING, started
from tests.trainer.evaluation.report.conftest import AGAIN, CLASSES
from trainer.evaluation.ensemble import mixtures
from trainer.evaluation.evaluate import evaluate_models
from trainer.evaluation.probabilities import Answers
from trainer.evaluation.report import page
from trainer.evaluation.results import Results, section
from trainer.evaluation.table import table

VOID = {"meta", "link", "img"}


class Parsed(HTMLParser):
    """Elements, addresses and text of a page; every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += f"{data} "


@pytest.fixture(scope="module")
def results_and_page(
    twice: Dataset, publish: Callable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Results, Path]:
    """Of random answers."""
    classes = twice.manifest.classes
    model = publish("three", tuple(c.id for c in classes), crop=64, size=64)
    about = checkpoint.load(checkpoint.current(model)).about
    about = about.model_copy(update={"classes": classes, "dataset": twice.digest})
    label_N = torch.from_numpy(twice.val.label(range(len(twice.val))))
    random = torch.Generator().manual_seed(0)
    probability_NK = torch.randn(len(label_N), 3, generator=random).softmax(dim=1)
    answers = Answers(torch.stack([probability_NK] * 2)[None], ())
    rows = mixtures([f"{about.name}, step {about.step}"], answers.probability_MVNK, label_N, False)
    found = Results(
        models=(), views=(1, 10), dataset=twice.digest, duplicates=0,
        sections=(section("packed", twice.folder, answers, label_N, mixtures=rows,
                          views=(1, 10), classes=classes),),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("report")
    return found, page.write(folder, found, about, twice, probability_NK, label_N)


def test_the_page_needs_nothing_else_and_escapes_every_name(
    results_and_page: tuple[Results, Path],
) -> None:
    _, path = results_and_page
    assert {each.name for each in path.parent.iterdir()} == {"index.html", "suspects.csv"}
    parsed = Parsed(path.read_text("utf-8"))
    assert not {"script", "b>000", "iframe", "object", "base"} & set(parsed.elements)
    assert all(address.startswith(("data:", "#")) for address in parsed.addresses)
    assert "url(" not in path.read_text("utf-8")
    for name in CLASSES:
        assert name in parsed.text
    assert "<b>000" in parsed.text
    for name in AGAIN:
        assert f"{name}.jpg" in parsed.text


def test_the_page_says_what_is_printed(results_and_page: tuple[Results, Path]) -> None:
    results, path = results_and_page
    text = " ".join(Parsed(path.read_text("utf-8")).text.split())
    printed = table(results)
    score = results.sections[0].rows[0].scores[-1]
    error = re.search(r"^three, step 7 .* ([\d.]+)% +(\d+) +0.00% +0$", printed, re.M)
    assert error
    wrong = int(error[2])
    assert f"{100 - float(error[1]):.2f}% of the best guesses" in text
    assert f"right (top-1): {15 - wrong} of 15" in text
    assert f"{wrong} images got a wrong best guess" in text
    macro = re.search(r"as the mean of the classes: .*, ([\d.]+)% \(10 views\)", printed)
    assert macro
    assert f"{100 - float(macro[1]):.2f}% is the mean of the classes" in text
    assert f"Expected calibration error: {score.ece:.2%}." in text
    assert f"{score.ece:.2%}" in printed
    for each in score.classes:
        assert f"{each.name} {each.pictures} {each.top1} {each.top1 / each.pictures:.2%}" in text
    assert "Training images were not judged: the network has seen them" in text
    assert "2 images for validation look nearly the same as a training image" in text


def test_a_browser_shows_every_image_without_errors(results_and_page: tuple[Results, Path]) -> None:
    _, path = results_and_page
    with started() as browser:
        if browser is None:
            pytest.skip(MISSING)
        tab = browser.new_page(viewport={"width": 360, "height": 800})
        wrong: list[str] = []
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("requestfailed", lambda request: wrong.append(request.url))
        tab.goto(path.as_uri())
        widths = tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
        assert len(widths) >= 4
        assert min(widths) > 0
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(overflow) == 0
        assert wrong == []


def test_a_report_is_about_one_model_and_a_dataset(two_models: tuple[Path, Path]) -> None:
    options: dict[str, Any] = {"views": (1,), "search": False, "workers": 1, "device": "cpu"}
    with pytest.raises(UserError, match="--folds judges training images for a page; give --report"):
        evaluate_models(two_models[:1], None, Path("anywhere"), folds=2, **options)
    options["report"] = Path("never")
    with pytest.raises(UserError, match="--report is about one model, but 2 are given; report on"):
        evaluate_models(two_models, None, None, **options)
    with pytest.raises(UserError, match="--report is about the images of a dataset; give --data"):
        evaluate_models(two_models[:1], None, Path("anywhere"), **options)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--report .*/file/in: the folder cannot be made \(Not a"):
        page.make_folder(tmp_path / "file" / "in")
