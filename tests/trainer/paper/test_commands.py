"""`alexnet paper`, as a user would."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alexnet import console
from tests.conftest import ROOT
from tests.trainer.evaluation.report.test_page import Parsed
from trainer.arguments import COMMANDS, PAPER
from trainer.paper.evidence import Evidence

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_what_an_experiment_lacks_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for words, remedy in (
        (("figure1",), "give --cifar FOLDER"),
        (("ablations", "--cifar", tmp_path), "give --data"),
        (("report", "--out", tmp_path), "run `alexnet paper all` first"),
    ):
        words = ["paper", *map(str, words)]
        assert console.run("alexnet", COMMANDS, arguments=words) == 2
        assert remedy in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_run_again_it_keeps_the_rows_that_are_finished(
    cifar: Path, tmp_path: Path, run_on_cluster: Run
) -> None:
    words = ["paper", "figure1", "--seeds", "1", "--cifar", cifar, "--work", tmp_path / "work",
             "--out", tmp_path / "out"]  # fmt: skip
    command = [sys.executable, "-m", "trainer", *map(str, words), "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    rows = tmp_path / "out" / "rows"
    while process.poll() is None and not list(rows.glob("*/*.json")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = {path: path.read_bytes() for path in rows.glob("*/*.json")}
    inodes = {path: path.stat().st_ino for path in kept}
    done = run_on_cluster("trainer", *words)
    assert done.returncode == 0, done.stderr
    found = list(rows.glob("*/*.json"))
    assert 1 <= len(kept) < len(found) == 6
    assert {path: path.stat().st_ino for path in kept} == inodes
    other = tmp_path / "other"
    again = run_on_cluster("trainer", *words[:-1], other)
    assert again.returncode == 0, again.stderr
    for path in found:
        assert (other / path.relative_to(tmp_path / "out")).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_all_of_it_on_drawn_images(
    cifar: Path, photographs: Path, tmp_path: Path, run_on_cluster: Run
) -> None:
    words = ["paper", "all", "--size", "quick", "--seeds", 2, "--cifar", cifar, "--data",
             photographs, "--set", "network.width=0.1", "--set", "batch=16", "--out",
             tmp_path / "out", "--work", tmp_path / "work"]  # fmt: skip
    done = run_on_cluster("trainer", *words)
    assert done.returncode == 0, done.stderr
    assert "is done" in done.stdout
    for name in PAPER:
        text = (tmp_path / "out" / f"{name}.json").read_text()
        evidence = Evidence.model_validate_json(text)
        assert json.loads(text)["numbers"]
        assert f"paper all --size quick --seeds 2 --cifar {cifar}" in evidence.command
        page = (tmp_path / "out" / f"{name}.md").read_text()
        assert all(paragraph in page for paragraph in evidence.paragraphs)
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
        assert "<svg" in (tmp_path / "out" / f"{name}.svg").read_text()
    again = run_on_cluster("trainer", *words)
    assert again.returncode == 0, again.stderr
    assert "is done" not in again.stdout
    done = run_on_cluster("trainer", "paper", "report", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    html = Parsed((tmp_path / "out" / "index.html").read_text())
    assert html.elements.count("img") == len(PAPER)
    assert all(address.startswith(("#", "data:")) for address in html.addresses)
    words_of = " ".join(html.text.split())
    for name in PAPER:
        evidence = Evidence.model_validate_json((tmp_path / "out" / f"{name}.json").read_text())
        assert all(" ".join(text.split()) in words_of for text in evidence.paragraphs)
