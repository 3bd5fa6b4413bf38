"""The whole command as a user gives it, and what it says when models do not belong together."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alexnet import console
from alexnet.checkpoint import load
from alexnet.command import UserError
from pipeline.batches import Decoding
from pipeline.dataset import Dataset
from pipeline.order import Shard
from pipeline.photographs import index_photographs
from pipeline.sources import builtin
from pipeline.sources.folder import folder_source
from trainer.arguments import COMMANDS
from trainer.evaluation.evaluate import evaluate_models
from trainer.evaluation.results import Results
from trainer.evaluation.validation import Validator


@pytest.mark.slow
def test_two_models_on_a_dataset_and_its_originals(
    dataset: Path,
    photographs: Path,
    two_models: tuple[Path, Path],
    tmp_path: Path,
    run_on_cluster: Callable,
) -> None:
    originals = tmp_path / "originals"
    shutil.copytree(photographs, originals)
    packed = Dataset(dataset)
    lost = originals / f"{packed.val.keys()[0]}.jpg"
    lost.write_bytes(b"")
    done = run_on_cluster(
        "trainer", "evaluate", *two_models, "--data", dataset, "--originals", originals,
        "--workers", 2, "--json", tmp_path / "found.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    found = json.loads((tmp_path / "found.json").read_text())
    assert found["dataset"] == packed.digest
    assert [model["sha256"] for model in found["models"]] == [
        load(model).about.weights_sha256 for model in two_models
    ]
    on_packed, served = found["sections"]
    assert (on_packed["kind"], on_packed["pictures"], on_packed["refused"]) == ("packed", 12, [])
    assert [row["name"] for row in on_packed["rows"]] == [
        "wide, step 7",
        "narrow, step 7",
        "2 CNNs",
    ]
    validator = Validator(packed, Shard(0, 1, None), Decoding(threads=1))
    for model, row in zip(two_models, on_packed["rows"], strict=False):
        network, mean_3HW, _, _ = load(model)
        for score in row["scores"]:
            expected = validator(network, mean_3HW, views=score["views"], precision="fp32")
            assert {name: score[name] for name in expected.model_dump()} == expected.model_dump()
            assert score["top1_error"] == pytest.approx(1 - expected.top1 / 12)
    assert (served["kind"], served["pictures"]) == ("served", 11)
    assert served["refused"] == [{"file": str(lost), "reason": "the file is empty (0 bytes)"}]
    assert all(max(row["differ"]) <= 3 for row in served["rows"])

    wrong = 12 - on_packed["rows"][2]["scores"][1]["top1"]
    assert re.search(r"^Model +Top-1 error +Top-5 error +Top-1 error", done.stdout, re.M)
    assert re.search(rf"^2 CNNs .* {wrong / 12:.2%} +{wrong} +0.00% +0$", done.stdout, re.M)
    assert f"not counted: {lost}: the file is empty" in done.stdout
    assert "2 CNNs, 10 views: the classes with the highest top-1 error" in done.stdout


@pytest.mark.slow
def test_searched_weights_are_reported_as_such(
    publish: Callable, tmp_path: Path, run_on_cluster: Callable
) -> None:
    shapes = tmp_path / "shapes"
    for number, name in enumerate(5 * builtin.CLASSES):
        (shapes / name).mkdir(parents=True, exist_ok=True)
        (shapes / name / f"{number}.jpg").write_bytes(builtin.draw(str(number), seed=1))
    models = [publish(f"shapes{n}", builtin.CLASSES, crop=64, size=64) for n in range(2)]
    done = run_on_cluster(
        "trainer", "evaluate", *models, "--originals", shapes, "--search-weights",
        "--views", 1, "--json", tmp_path / "found.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = Results.model_validate_json((tmp_path / "found.json").read_bytes())
    mean, searched = found.sections[0].rows[-2:]
    assert (mean.name, searched.name) == ("2 CNNs", "2 CNNs, weights searched")
    assert (mean.searched, searched.searched) == (False, True)
    assert searched.scores[0].top5 >= mean.scores[0].top5
    assert "chosen on these very images: expect more errors on new ones" in done.stdout


@pytest.mark.slow
def test_damage_is_named_by_the_task_that_meets_it(
    dataset: Path, two_models: tuple[Path, Path], tmp_path: Path, run_on_cluster: Callable
) -> None:
    copy = Dataset(Path(shutil.copytree(dataset, tmp_path / "copy")))
    _, size, offset, _ = copy.val.index[7].tolist()
    with (copy.folder / "val" / "00000.tar").open("r+b") as shard:
        shard.seek(offset)
        shard.write(bytes(size))
    done = run_on_cluster("trainer", "evaluate", *two_models, "--data", copy.folder, "--views", 1)
    assert done.returncode == 2
    assert re.fullmatch(
        r"python -m trainer evaluate: .*val/00000.tar, at byte \d+ \(image 7\): "
        r"cannot be decoded; .*\n",
        done.stderr,
    )


@pytest.mark.slow
def test_some_of_a_models_classes(
    dataset: Path, photographs: Path, publish: Callable, tmp_path: Path, run_on_cluster: Callable
) -> None:
    """A dataset of three of its five, in another order, and photographs of one."""
    model = publish("five", ("wave", "square", "ring", "dots", "disc"), crop=64, size=128)
    shutil.copytree(photographs / "ring", tmp_path / "one" / "Ring")  # by its name
    done = run_on_cluster(
        "trainer", "evaluate", model, "--data", dataset, "--views", 1, "--json",
        tmp_path / "packed.json", "--calibrate", "--target-precision", 0.2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (fit,) = Results.model_validate_json((tmp_path / "packed.json").read_bytes()).calibrations
    about = load(model).about
    assert about.calibrations == (fit.kept,)
    assert (fit.kept.views, fit.kept.pictures) == (1, 12)
    assert fit.kept.dataset == Dataset(dataset).digest
    assert f"the temperature is {about.temperature(1):.3f}\n" in done.stdout
    one = run_on_cluster(
        "trainer", "evaluate", model, "--originals", tmp_path / "one", "--views", 1, "--json",
        tmp_path / "one.json",
    )  # fmt: skip
    assert one.returncode == 0, one.stderr

    def pictures(file: str) -> dict[str, int]:
        (score,) = json.loads((tmp_path / file).read_text())["sections"][0]["rows"][0]["scores"]
        return {c["id"]: c["pictures"] for c in score["classes"]}

    val = Dataset(dataset).val
    counts = [list(val.label(range(len(val)))).count(label) for label in range(3)]
    expected = dict(zip(("disc", "ring", "square"), counts, strict=True))
    assert pictures("packed.json") == {"wave": 0, "dots": 0} | expected
    assert pictures("one.json") == dict.fromkeys(("wave", "square", "dots", "disc"), 0) | {
        "ring": 40
    }


def nothing_is_asked(
    models: list[Path], data: Path | None, folder: Path | None = None, **options: Any
) -> str:
    options = {"search": data is None} | options
    with pytest.raises(UserError) as error:
        evaluate_models(models, data, folder, views=(1,), workers=None, device="cpu", **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_errors_name_what_does_not_belong_together(
    dataset: Path, photographs: Path, two_models: tuple[Path, Path], publish: Callable,
    tmp_path: Path,
) -> None:  # fmt: skip
    wide = two_models[0]
    other = publish("other", ("disc", "square", "ring"), crop=64, size=128)
    assert re.search(
        "wide/00000007 and .*other/00000007 have different classes: class 1 is ring in the first, "
        "square in the second; both must",
        nothing_is_asked([wide, other], dataset),
    )
    more = publish("more", ("disc", "ring", "square", "star"), crop=64, size=128)
    assert "class 3 is missing in the first, star" in nothing_is_asked([wide, more], dataset)
    fewer = publish("fewer", ("disc", "square"), crop=64, size=128)
    assert "packed/ring: ring is no class of the models" in nothing_is_asked([fewer], dataset)
    small = publish("tiny", crop=64, size=64)
    assert "tiny/00000007 takes images of 64 x 64 pixels, " in nothing_is_asked([small], dataset)
    alone: dict[str, Any] = {"search": False, "target_precision": 0.9}
    assert "--target-precision is found by --calibrate" in nothing_is_asked(
        [wide], dataset, **alone
    )
    assert "it needs two or more; give --data DATASET" in nothing_is_asked(
        [wide], None, photographs, calibrated=True, **alone
    )
    assert "one is given; name more" in nothing_is_asked([wide], None)
    assert "which is always 0 with 3 classes; leave" in nothing_is_asked(list(two_models), None)
    listed = index_photographs(folder_source(photographs, 0.1, {}), tmp_path / "listed", 128)
    assert "lists photographs that were not packed; give either" in nothing_is_asked(
        [wide], listed.folder, photographs
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "nothing to evaluate on; give --data DATASET, --originals FOLDER, or both"),
        (("--json", "no/where.json"), "--json no/where.json: there is no such folder; make it"),
        (("--views", "5"), "--views is 5: a network is shown 1 view or 10"),
    ],
)
def test_bad_usage_is_one_line(
    two_models: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    text: str,
) -> None:
    try:
        status = console.run(
            "alexnet", COMMANDS, arguments=["evaluate", str(two_models[0]), *words]
        )
    except SystemExit as end:
        status = end.code
    assert status == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
