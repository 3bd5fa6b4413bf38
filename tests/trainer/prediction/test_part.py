"""A part is the same bytes whoever answers it, and is kept as long as it is what would be made."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.guess import guesses
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from pipeline.sources.unlabelled import FILES, Photograph, photographs
from tests.alexnet.test_predictor import calibrated
from trainer.prediction.part import (
    PART_PHOTOGRAPHS,
    Answerer,
    Done,
    Plan,
    Question,
    plan_parts,
    read_part,
)


@pytest.fixture(scope="module")
def question(small_models: tuple[Path, Path]) -> Question:
    step = checkpoint.current(small_models[0])
    return Question(step, checkpoint.read_about(step), views=10, top=2, gpu=False)


def answered(question: Question, folder: Path, plan: Plan, threads: int = 1) -> Done:
    with Answerer(question, folder, threads) as answerer:
        return answerer.answer(plan)


@pytest.fixture
def plan(tmp_path: Path, photographs: Path) -> Plan:
    """Fourteen photographs, among them one that is damaged, one that is empty and a missing one."""
    files = sorted(photographs.rglob("*.jpg"))[35:45]
    for name, data in {"cut.png": b"\x89PNG\r\n\x1a\n", "empty.jpg": b""}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "mine.jpg").write_bytes(files[0].read_bytes())
    listed = [*files[:4], tmp_path / "cut.png", *files[4:], tmp_path / "empty.jpg"]
    listed += [tmp_path / "mine.jpg", tmp_path / "gone.jpg"]
    return Plan.of(3, [Photograph(f"./{p.name}", None, FILES, str(p)) for p in listed])


def test_answers_are_those_of_the_predictor(tmp_path: Path, plan: Plan, question: Question) -> None:
    assert answered(question, tmp_path, plan, threads=2) == Done(14, errors=3, kept=False)
    rows = read_part(tmp_path / "0000003.parquet").to_pylist()
    predictor = Predictor([checkpoint.load(question.model)], "cpu")
    for photograph, row in zip(plan.photographs, rows, strict=True):
        assert row["path"] == photograph.path
        if row["error"] is None:
            image_SS3 = whole_image(Path(photograph.location).read_bytes(), question.about.size)
            vote_NVK = predictor.classify(torch.from_numpy(image_SS3).permute(2, 0, 1)[None], 10)
            expected = guesses(vote_NVK.mean(dim=1)[0], question.about.classes, 2)
            for n, guess in enumerate(expected, 1):
                assert (row[f"id{n}"], row[f"label{n}"]) == (guess.id, guess.label)
                assert row[f"probability{n}"] == pytest.approx(guess.probability, abs=1e-5)
    errors = {row["path"]: row["error"] for row in rows if row["error"]}
    assert errors.keys() == {"./cut.png", "./empty.jpg", "./gone.jpg"}
    assert errors["./empty.jpg"] == "the file is empty (0 bytes)"
    assert errors["./gone.jpg"] == "No such file or directory"
    assert rows[4]["id1"] is rows[4]["probability2"] is None
    assert {row["none_of_these"] for row in rows} == {None}


def test_the_bytes_depend_on_neither_threads_nor_company(
    tmp_path: Path, plan: Plan, question: Question
) -> None:
    content = []
    for threads in (1, 3):
        folder = tmp_path / str(threads)
        folder.mkdir()
        with Answerer(question, folder, threads) as answerer:
            if threads == 3:
                answerer.answer(Plan.of(0, plan.photographs[:5]))
            answerer.answer(plan)
        content.append((folder / plan.file).read_bytes())
    assert content[0] == content[1]


def test_a_part_is_kept_until_something_changes(
    tmp_path: Path, plan: Plan, question: Question, small_models: tuple[Path, Path]
) -> None:
    def kept(plan: Plan = plan, question: Question = question) -> bool:
        return answered(question, tmp_path, plan).kept

    assert not kept()
    assert kept()
    os.utime(tmp_path / "mine.jpg", ns=(0, 0))
    assert not kept()
    assert not kept(replace(plan, content=Plan.of(3, plan.photographs[::-1]).content))
    other = checkpoint.current(small_models[1])
    for changed in (
        replace(question, views=1),
        replace(question, top=1),
        replace(question, asked=0.5),
        replace(question, asked=0.0),
        replace(question, model=other, about=checkpoint.read_about(other)),
    ):
        assert not kept(question=changed)
    assert not kept()
    before = (tmp_path / plan.file).read_bytes()
    damaged = bytearray(before)
    damaged[len(before) // 3] ^= 1
    for content in (bytes(damaged), before[:-9], b""):
        (tmp_path / plan.file).write_bytes(content)
        assert not kept()
        assert (tmp_path / plan.file).read_bytes() == before


def test_another_least_probability_makes_the_part_again(
    tmp_path: Path, plan: Plan, question: Question
) -> None:
    def rows(**asked: object) -> list[dict]:
        assert not answered(replace(question, **asked), tmp_path, plan).kept
        assert answered(replace(question, **asked), tmp_path, plan).kept
        return read_part(tmp_path / plan.file).to_pylist()

    def none(least: float) -> list[bool | None]:
        return [None if best is None else best < least for best in best_N]

    best_N = [row["probability1"] for row in rows()]
    exact = sorted(filter(None, best_N))[5]
    for least in (0.0, exact, np.nextafter(exact, 1).item(), 1.0):
        found = rows(asked=least)
        assert [row["none_of_these"] for row in found] == none(least)
        assert [row["probability1"] for row in found] == best_N


def test_a_calibration_makes_the_parts_again_that_it_is_for(
    tmp_path: Path, plan: Plan, question: Question
) -> None:
    """Its temperature changes probabilities, and its threshold is the default."""
    loaded = checkpoint.load(question.model)

    def asked(*calibration: float, views: int = 10, asked: float | None = None) -> Question:
        about = calibrated(loaded, *calibration, views=views).about
        return replace(question, about=about, asked=asked)

    def kept(question: Question) -> bool:
        return answered(question, tmp_path, plan).kept

    assert not kept(question)
    before = read_part(tmp_path / plan.file)
    assert kept(asked(3.0, 0.9, views=1))
    assert not kept(asked(3.0))
    hot = read_part(tmp_path / plan.file)
    assert not hot.column("probability1").equals(before.column("probability1"))
    assert hot.column("none_of_these").null_count == 14
    assert not kept(asked(3.0, 0.9))
    assert read_part(tmp_path / plan.file).column("none_of_these").null_count == 3
    assert kept(asked(3.0, 0.9, asked=0.9))
    assert not kept(asked(3.0, 0.9, asked=0.8))


def test_plans_are_compact_and_lose_nothing(tmp_path: Path) -> None:
    for folder in range(3):
        (tmp_path / f"{folder}").mkdir()
        for number in range(200):
            (tmp_path / f"{folder}" / f"{number:06d}.jpg").touch()
    plans = list(plan_parts(photographs([str(tmp_path)])))
    assert [(plan.number, plan.count) for plan in plans] == [(0, 256), (1, 256), (2, 88)]
    assert plans[0].count == PART_PHOTOGRAPHS
    found = [p.location for plan in plans for p in plan.photographs]
    assert found == [p.location for p in photographs([str(tmp_path)])]
    assert sum(len(plan.content) for plan in plans) < 20 * len(found)


def test_a_model_that_is_gone_is_the_users_error(
    tmp_path: Path, plan: Plan, question: Question
) -> None:
    with pytest.raises(UserError, match="there is no published model"):
        answered(replace(question, model=tmp_path), tmp_path, plan)
