"""`alexnet predict` answers as the server does."""

import io
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from alexnet import checkpoint
from pipeline.sources.unlabelled import photographs
from tests.serving.conftest import Server
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


def check(folder: Path, model: Path, server: Server, tmp_path: Path) -> int:
    """Asks both; returns how many photographs have an answer."""
    step = checkpoint.current(model)
    about = checkpoint.read_about(step)
    plan = Plan.of(0, list(photographs([str(folder)])))
    with Answerer(Question(step, about, views=10, top=5, gpu=False), tmp_path, 1) as answerer:
        answerer.answer(plan)
    answers = 0
    for row in read_part(tmp_path / plan.file).to_pylist():
        found = server.post("/classify", Path(row["path"]).read_bytes())
        assert found.is_success == (row["error"] is None), (row, found.text)
        if found.is_success:
            answers += 1
            guesses = found.json()["results"][0]["guesses"]
            assert [guess["id"] for guess in guesses] == [row[f"id{n}"] for n in range(1, 6)]
            assert [guess["label"] for guess in guesses] == [row[f"label{n}"] for n in range(1, 6)]
            for n, guess in enumerate(guesses, 1):
                assert guess["probability"] == pytest.approx(row[f"probability{n}"], abs=1e-5)
        else:
            assert row["error"] in found.json()["detail"]
    return answers


def test_drawn_photographs(tmp_path: Path, jpeg: bytes, model: Path, server: Server) -> None:
    (tmp_path / "photos").mkdir()
    assert check(drawn(tmp_path / "photos", jpeg), model, server, tmp_path) == 7


def test_real_photographs(test_data: Path, tmp_path: Path, model: Path, server: Server) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((test_data / "imagenet-originals").rglob("*.JPEG"))[:30]:
        (folder / path.name).symlink_to(path)
    assert check(folder, model, server, tmp_path) == 30
