"""`alexnet predict` answers as the server does."""

import io
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from alexnet import checkpoint
from pipeline.sources.unlabelled import photographs
from tests.alexnet.test_predictor import calibrated
from tests.serving.conftest import PATIENCE_S, Server, publish, serve
from trainer.prediction.part import Answerer, Plan, Question, read_part


def drawn(folder: Path, jpeg: bytes) -> Path:
    """One photograph in several formats and colours, turned and transparent."""
    with Image.open(io.BytesIO(jpeg)) as image:
        turned = Image.Exif()
        turned[ExifTags.Base.Orientation] = 6
        image.save(folder / "turned.jpg", exif=turned)
        image.convert("L").save(folder / "grey.jpg")
        image.convert("CMYK").save(folder / "cmyk.jpg")
        image.resize((900, 700)).save(folder / "large.jpg")
        image.save(folder / "a.png")
        image.convert("P").save(folder / "palette.png")
        see_through = image.convert("RGBA")
        see_through.putalpha(image.convert("L"))
        see_through.save(folder / "transparent.webp")
    (folder / "damaged.jpg").write_bytes(jpeg[:700])
    return folder


def rows(
    folder: Path, model: Path, tmp_path: Path, views: int = 10, least: float | None = None
) -> list[dict]:
    """What `alexnet predict` answers."""
    step = checkpoint.current(model)
    about = checkpoint.read_about(step)
    plan = Plan.of(0, list(photographs([str(folder)])))
    question = Question(step, about, views, top=5, gpu=False, asked=least)
    with Answerer(question, tmp_path, 1) as answerer:
        answerer.answer(plan)
    return read_part(tmp_path / plan.file).to_pylist()


def check(
    folder: Path,
    model: Path,
    server: Server,
    tmp_path: Path,
    views: int = 10,
    least: float | None = None,
) -> list[bool | None]:
    """Asks both; returns of each photograph that has an answer whether it is none of these."""
    params = {"views": views} | ({} if least is None else {"min_probability": least})
    answers = []
    for row in rows(folder, model, tmp_path, views, least):
        found = server.post("/classify", Path(row["path"]).read_bytes(), params=params)
        assert found.is_success == (row["error"] is None), (row, found.text)
        if found.is_success:
            (result,) = found.json()["results"]
            guesses = result["guesses"]
            assert row["none_of_these"] == result.get("none_of_these"), (row, result)
            answers.append(row["none_of_these"])
            assert [guess["id"] for guess in guesses] == [row[f"id{n}"] for n in range(1, 6)]
            assert [guess["label"] for guess in guesses] == [row[f"label{n}"] for n in range(1, 6)]
            for n, guess in enumerate(guesses, 1):
                assert guess["probability"] == pytest.approx(row[f"probability{n}"], abs=1e-5)
        else:
            assert row["error"] in found.json()["detail"]
            assert row["none_of_these"] is None
    return answers


def between(answered: list[dict]) -> list[float]:
    """The middles between two best guesses whose probabilities no rounding can confuse."""
    best = sorted(row["probability1"] for row in answered if row["error"] is None)
    return [(low + high) / 2 for low, high in pairwise(best) if high - low > 1e-4]


@pytest.fixture
def photos(tmp_path: Path, jpeg: bytes) -> Path:
    (tmp_path / "photos").mkdir()
    return drawn(tmp_path / "photos", jpeg)


@pytest.mark.parametrize("views", [1, 10])
def test_drawn_photographs(
    photos: Path, tmp_path: Path, model: Path, server: Server, views: int
) -> None:
    """By a model without a threshold, which says nothing unless asked."""
    asked = photos, model, server, tmp_path, views
    assert check(*asked) == [None] * 7
    assert check(*asked, least=0) == [False] * 7
    assert check(*asked, least=1) == [True] * 7
    middles = between(rows(photos, model, tmp_path, views))
    assert len(middles) > 1
    for least in middles:
        assert set(check(*asked, least=least)) == {False, True}


def test_what_was_published_is_the_default(photos: Path, tmp_path: Path) -> None:
    """For as many views as it was found with."""
    model = publish(tmp_path / "models")
    step = checkpoint.current(model)
    loaded = checkpoint.load(step)
    checkpoint.calibrate(step, calibrated(loaded, 2.0).about.calibrations)
    least = between(rows(photos, model, tmp_path))[0]
    checkpoint.calibrate(step, calibrated(loaded, 2.0, threshold=least).about.calibrations)
    with serve("--model", model, decode_s=PATIENCE_S, deadline_s=PATIENCE_S) as server:
        asked = photos, model, server, tmp_path
        assert set(check(*asked)) == {False, True}
        assert check(*asked, least=0) == [False] * 7
        assert check(*asked, least=1) == [True] * 7
        assert check(*asked, views=1) == [None] * 7
        assert check(*asked, views=1, least=1) == [True] * 7


def test_real_photographs(test_data: Path, tmp_path: Path, model: Path, server: Server) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((test_data / "imagenet-originals").rglob("*.JPEG"))[:30]:
        (folder / path.name).symlink_to(path)
    assert len(check(folder, model, server, tmp_path)) == 30
