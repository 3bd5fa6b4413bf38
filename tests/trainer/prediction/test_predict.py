"""The command: the same file by any number of processes, and after it was killed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from alexnet import checkpoint, console
from pipeline.sources.unlabelled import photographs as found_in
from tests.conftest import ROOT
from trainer.arguments import COMMANDS
from trainer.prediction.part import Answerer, Question, plan_parts


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that take some time to decode: four parts."""
    folder = tmp_path_factory.mktemp("many")
    Image.effect_noise((200, 160), 90).save(folder / "0000.png")
    for number in range(1, 800):
        (folder / f"{number:04d}.png").hardlink_to(folder / "0000.png")
    (folder / "0555.png").unlink()
    (folder / "0555.png").write_bytes(b"none")
    return folder


def test_killed_and_run_again_it_ends_with_the_same_bytes(
    many: Path,
    small_models: tuple[Path, Path],
    tmp_path: Path,
    run_on_cluster: Callable,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def words(name: str, workers: int) -> list[str]:
        out = tmp_path / name
        options = ["--views", 1, "--workers", workers, "--out", out]
        return ["alexnet", "predict", *map(str, [small_models[0], many, *options])]

    whole = run_on_cluster(*words("whole.parquet", 2))
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.endswith("whole.parquet: 800 photographs, 1 without an answer\n")
    assert not (tmp_path / "whole.parquet.parts").exists()
    rows = parquet.read_table(tmp_path / "whole.parquet")
    assert rows.column("path").to_pylist() == [str(path) for path in sorted(many.iterdir())]

    parts = tmp_path / "killed.parquet.parts"
    process = subprocess.Popen(
        [sys.executable, "-m", *words("killed.parquet", 1)],
        cwd=ROOT, env=run_on_cluster.keywords["env"], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while not (finished := len(list(parts.glob("*.parquet")))):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.parquet").exists()
    again = run_on_cluster(*words("killed.parquet", 2))
    assert again.returncode == 0, again.stderr
    assert f"{parts}: an earlier run was interrupted" in again.stdout
    kept = int(again.stdout.rsplit("; ", 1)[1].split()[0].replace(",", ""))
    assert kept >= 256 * finished
    whole_bytes = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "killed.parquet").read_bytes() == whole_bytes
    assert not parts.exists()

    assert command(*words("killed.parquet", 2)[2:]) == 2
    assert "the file is there already; remove it, or name another" in capsys.readouterr().err


def test_parts_of_another_least_probability_are_made_again(
    photographs: Path, small_models: tuple[Path, Path], tmp_path: Path, run_on_cluster: Callable
) -> None:
    step = checkpoint.current(small_models[0])
    about, folder = checkpoint.read_about(step), photographs / "disc"
    for ending, earlier, said in (("jsonl", 0.0, "answer\n"), ("csv", 1.0, "interruption\n")):
        out = tmp_path / f"answers.{ending}"
        parts = tmp_path / f"answers.{ending}.parts"
        parts.mkdir()
        question = Question(step, about, views=1, top=3, gpu=False, asked=earlier)
        with Answerer(question, parts, 1) as answerer:
            for plan in plan_parts(found_in([str(folder)])):
                answerer.answer(plan)
        done = run_on_cluster(
            "alexnet", "predict", small_models[0], folder, "--out", out, "--views", 1,
            "--min-probability", 1, "--workers", 1, "--device", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(said)
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["none_of_these"] for line in lines] == [True] * 40
    head, *cells = (tmp_path / "answers.csv").read_text().splitlines()
    assert head.endswith(",probability3,none_of_these,error")
    assert [cell.endswith(",true,") for cell in cells] == [True] * 40


@pytest.mark.parametrize("least", ["-0.1", "1.1", "nan", "x"])
def test_a_least_probability_is_0_to_1(
    least: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--out", tmp_path / "a.csv", f"--min-probability={least}")
    assert command(tmp_path, photographs, *words) == 2
    assert "--min-probability" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "sources", "text"),
    [
        ("a.xlsx", ["{photographs}"], "none of .parquet, .csv, .jsonl"),
        ("none/a.csv", ["{photographs}"], "there is no such folder; make it first"),
        ("a.csv", ["{tmp}"], "there are no photographs in it"),
        ("a.csv", ["{tmp}/absent"], "there is no such file or folder"),
        ("/proc/a.csv", ["{photographs}"], "/proc/a.csv.parts"),
    ],
)
def test_a_mistake_is_said_before_ray_starts(
    out: str, sources: list[str], text: str,
    photographs: Path, small_models: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [source.format(photographs=photographs, tmp=tmp_path) for source in sources]
    assert command(small_models[0], *given, "--out", tmp_path / out) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.startswith("alexnet predict: ")
    assert said.count("\n") == 1


def test_a_model_that_is_missing_is_said(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, photographs, "--out", tmp_path / "a.csv") == 2
    assert "there is no published model" in capsys.readouterr().err


def command(*words: object) -> int:
    return console.run("alexnet", COMMANDS, arguments=["predict", *map(str, words)])
