"""A part is the same bytes whoever answers it, and is kept as long as it is what would be made."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.guess import guesses
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from pipeline.sources.unlabelled import FILES, Photograph, photographs
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
