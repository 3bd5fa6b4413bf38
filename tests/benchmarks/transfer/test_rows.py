"""Which photographs are chosen, and what is counted of the answers."""

from pathlib import Path

import pytest

from tests.benchmarks.transfer.rows import (
    FINETUNED,
    SCRATCH,
    Row,
    accuracies,
    accuracy_table,
    drawn,
    epochs,
    kept,
    labels,
)

FOLDER = {"n1": [f"{number}.JPEG" for number in range(40)], "n2": ["b.JPEG", "a.JPEG"]}


def row(photographs: int, seed: int, tuned: int, scratch: int) -> Row:
    return Row(
        photographs=photographs,
        seed=seed,
        steps={FINETUNED: 200, SCRATCH: 210},
        correct={FINETUNED: tuned, SCRATCH: scratch},
        images=100,
    )


def test_a_choice_depends_on_the_seed_alone_and_is_part_of_the_larger_ones() -> None:
    ten = drawn(FOLDER, 10, seed=0)
    assert ten == drawn({name: files[::-1] for name, files in FOLDER.items()}, 10, seed=0)
    assert ten["n1"] == drawn(FOLDER, 20, seed=0)["n1"][:10]
    assert ten["n1"] != drawn(FOLDER, 10, seed=1)["n1"]
    assert {name: len(set(files)) for name, files in ten.items()} == {"n1": 10, "n2": 2}


def test_the_table_to_pack_has_a_line_for_each_photograph() -> None:
    assert labels({"n1": ["a.JPEG"]}, {"n1": ["b.JPEG"], "n2": []}) == (
        "file,label,split\ntrain/n1/a.JPEG,n1,train\nval/n1/b.JPEG,n1,val\n"
    )


@pytest.mark.parametrize(("images", "batch", "steps"), [(30, 64, 200), (65, 64, 3), (600, 64, 570)])
def test_epochs_make_the_steps_and_no_epoch_more(images: int, batch: int, steps: int) -> None:
    of_one = len(range(0, images, batch))
    assert 0 <= epochs(images, batch, steps) * of_one - steps < of_one


def test_finished_rows_are_read_again(tmp_path: Path) -> None:
    rows = [row(10, 0, 60, 50), row(10, 1, 64, 50)]
    path = tmp_path / "rows.jsonl"
    assert kept(path) == []
    path.write_text("".join(each.model_dump_json() + "\n" for each in rows))
    assert kept(path) == rows


def test_the_table_by_hand() -> None:
    rows = [row(20, 0, 70, 60), row(10, 0, 60, 50), row(10, 1, 64, 50)]
    assert accuracies(rows, FINETUNED) == {10: [0.6, 0.64], 20: [0.7]}
    _, _, ten, twenty = accuracy_table(rows).splitlines()
    assert ten == "| 10 | 2 | 62.0 ± 2.8 | 50.0 ± 0.0 | +12.0 (+10.0 to +14.0) | 200 | 210 |"
    assert twenty == "| 20 | 1 | 70.0 | 60.0 | +10.0 (+10.0 to +10.0) | 200 | 210 |"
