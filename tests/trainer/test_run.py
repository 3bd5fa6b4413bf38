"""A run goes on only as what it began as, and only once at a time."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from trainer.recipes import small
from trainer.resolution import resolve
from trainer.run import Run, RunError, ask_to_stop, find_run, open_run


def a_run(runs: Path, **changes: object) -> Run:
    fields = {
        "name": "r", "recipe": small(), "data": Path("/d"), "dataset": "0" * 64,
        "runs": runs, "workers": (1, 1), "gpu": False,
    }  # fmt: skip
    return Run.model_validate(fields | changes)


def test_a_name_is_refused_until_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run r in .* to resume"):
        open_run(a_run(tmp_path), resume="yes")
    assert open_run(a_run(tmp_path), resume="no").directory == tmp_path / "r"
    with pytest.raises(RunError, match=r"run r exists already in .*--resume, or choose another"):
        open_run(a_run(tmp_path), resume="no")
    open_run(a_run(tmp_path, workers=(1, 3)), resume="yes")
    other = resolve("small", {}, [("seed", 13)])
    with pytest.raises(RunError, match="began with seed = 0, but now it is 13"):
        open_run(a_run(tmp_path, recipe=other), resume="yes")
    with pytest.raises(RunError, match="began with another dataset"):
        open_run(a_run(tmp_path, dataset="1" * 64), resume="yes")


def test_a_run_goes_on_with_the_folding_that_it_began_with(tmp_path: Path) -> None:
    """Which one that began before there was this field has not."""
    open_run(a_run(tmp_path), resume="no")
    folded = small().model_copy(update={"folded": {"fc7": (2.0,)}})
    assert open_run(a_run(tmp_path, recipe=folded), resume="yes").recipe == small()


def test_a_run_goes_on_where_only_the_least_steps_are_others(tmp_path: Path) -> None:
    """As where `--epochs` is given then: what counts is how many epochs that makes."""
    tuned = resolve("finetune", {}, [])
    open_run(a_run(tmp_path, recipe=tuned), resume="no")
    given = resolve("finetune", {}, [("epochs", tuned.epochs + 1)])
    assert open_run(a_run(tmp_path, recipe=given), resume="yes").recipe == given


def test_if_any_starts_a_run_and_goes_on_with_it(tmp_path: Path) -> None:
    started = open_run(a_run(tmp_path), resume="if-any")
    assert open_run(a_run(tmp_path), resume="if-any") == started
    with pytest.raises(RunError, match="began with another dataset"):
        open_run(a_run(tmp_path, dataset="1" * 64), resume="if-any")


FIXED, PLATEAU = ("schedule.kind", "fixed"), ("schedule.kind", "plateau")
SWITCHED = (("colour_until", 0.5), ("conv1_until", 0.75))


@pytest.mark.parametrize(
    ("changes", "trained", "epochs", "refused", "parts_of"),
    [
        ((PLATEAU,), 12, 20, "", 12),  # colour has been off since epoch 9, and stays off
        ((PLATEAU,), 8.5, 20, "", None),
        ((PLATEAU,), 9.5, 20, "", 12),
        ((PLATEAU, *SWITCHED), 6, 11, "", None),  # 5.5 is epoch 6, too
        ((PLATEAU, *SWITCHED), 6, 10, "", 12),
        ((PLATEAU, ("colour_until", 1), ("conv1_until", 1)), 12, 13, "", None),
        ((PLATEAU, ("colour_until", 0), ("conv1_until", 0)), 12, 13, "", None),
        ((PLATEAU,), 12, 11, r"has trained 12 epochs .* it with 12 or more, or .* publish r", None),
        ((PLATEAU,), 10.25, 10, r"has trained 10.25 epochs already, .* with 11 or more", None),
        ((PLATEAU,), 10, 10, "", 12),
        ((), 0, 20, "", None),
        (
            (),
            1.5,
            20,
            r"trained 1.5 of 12 .* of 20 .* \(schedule cosine\); .* --epochs 12, or",
            None,
        ),
        ((), 12, 20, r"in another run: --name OTHER --init-from models/r$", None),
        ((FIXED,), 2.5, 20, "", None),
        ((FIXED,), 3, 20, "", None),
        ((FIXED,), 2.5, 8, r"of 8 these would have had other learning rates", None),
        ((FIXED,), 3.25, 20, r"schedule fixed", None),
        ((FIXED, ("schedule.drops", []), ("schedule.bias_drops", [])), 12, 20, "", 12),
    ],
)
def test_a_run_gets_other_epochs_where_it_would_have_begun_alike(
    tmp_path: Path, changes: tuple, trained: float, epochs: int, refused: str, parts_of: int | None
) -> None:
    recipe = resolve("small", {}, changes)
    run = open_run(a_run(tmp_path, recipe=recipe), resume="no")
    line = json.dumps({"kind": "train", "epoch": trained, "step": 1}) + "\n" + '{"kind": "tra'
    run.metrics.write_text(line if trained else "")
    longer = a_run(tmp_path, recipe=recipe.model_copy(update={"epochs": epochs}))
    if refused:
        with pytest.raises(RunError, match=refused):
            open_run(longer, resume="yes")
        assert find_run(tmp_path, "r") == run
        return
    resumed = open_run(longer, resume="yes")
    assert resumed == longer.model_copy(update={"parts_of": parts_of}) == find_run(tmp_path, "r")
    assert open_run(longer, resume="yes") == resumed
    base = parts_of or epochs
    assert resumed.colour_until == recipe.colour_until * base
    assert resumed.conv1_until == recipe.conv1_until * base


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b", "x" * 65])
def test_names_that_are_no_folder_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        a_run(tmp_path, name=name)


def test_a_run_is_found_by_its_name(tmp_path: Path) -> None:
    run = open_run(a_run(tmp_path), resume="no")
    assert find_run(tmp_path, "r") == run
    with pytest.raises(RunError, match=r"s/config.json: No such file.* check the run's name"):
        find_run(tmp_path, "s")
    (run.directory / "config.json").write_text('{"name": "r"}')
    with pytest.raises(RunError, match="another version wrote the file, or it was edited by hand"):
        find_run(tmp_path, "r")


def test_the_folder_that_is_given_is_the_runs(tmp_path: Path) -> None:
    """Moved with what it holds, the list of photographs among that; renamed; resumed with a copy of
    its dataset."""
    old = tmp_path / "old"
    open_run(a_run(old, data=old / "r" / "photographs"), resume="no")
    new = old.rename(tmp_path / "new")
    moved = find_run(new, "r")
    assert (moved.directory, moved.data) == (new / "r", new / "r" / "photographs")
    with moved.held():
        ask_to_stop(find_run(new, "r"))
    assert (new / "r" / "stop").exists()
    assert not old.exists()
    (new / "r").rename(new / "s")
    assert find_run(new, "s").directory == new / "s"

    open_run(a_run(new, name="t"), resume="no")
    open_run(a_run(new, name="t", data=Path("/copy")), resume="yes")
    assert find_run(new, "t").data == Path("/copy")
    with pytest.raises(RunError, match="resume it with that of /copy"):
        open_run(a_run(new, name="t", dataset="1" * 64), resume="yes")


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Whole, as it was or as it is."""
    open_run(a_run(tmp_path), resume="no")
    with ThreadPoolExecutor(1) as pool:
        copies = [Path(f"/copy{n}") for n in range(200)]
        writing = pool.submit(
            lambda: [open_run(a_run(tmp_path, data=copy), resume="yes") for copy in copies]
        )
        while not writing.done():
            assert find_run(tmp_path, "r").data in [Path("/d"), *copies]
        writing.result()
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == [
        "config.json", "metrics.jsonl"
    ]  # fmt: skip


def test_one_process_trains_a_run_and_only_a_running_one_is_stopped(tmp_path: Path) -> None:
    run = open_run(a_run(tmp_path), resume="no")
    with pytest.raises(RunError, match="run r is not running, so there is nothing to stop"):
        ask_to_stop(run)
    assert not run.stop.exists()
    with run.held():
        with (
            pytest.raises(RunError, match=r"run r is being trained already.*alexnet stop r"),
            run.held(),
        ):
            pass
        ask_to_stop(run)
    assert run.stop.exists()
