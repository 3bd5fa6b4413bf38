"""Published models: whole, verified, replaced without a gap."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from alexnet.calibration import Calibration, Errors
from alexnet.checkpoint import About, Accuracy, CheckpointError, calibrate, load, now, save
from alexnet.classes import ClassLabel
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import ImageRule

NETWORK = AlexNetConfig(classes=3, width=0.1, crop=64)


def about(step: int = 7) -> About:
    return About(
        name="dogs",
        step=step,
        network=NETWORK,
        classes=tuple(ClassLabel(id=f"n{i}", name=f"dog {i}") for i in range(3)),
        size=72,
        dataset="d" * 64,
        recipe={},
        trained_at=now(),
        versions={},
    )


def model(seed: int) -> AlexNet:
    torch.manual_seed(seed)
    return AlexNet(NETWORK)


MEAN = torch.rand(3, 64, 64)


def test_a_round_trip_is_bit_identical(tmp_path: Path) -> None:
    saved = model(0)
    directory = save(saved, MEAN, about(), tmp_path)
    assert directory == tmp_path / "dogs" / "00000007"
    loaded = load(tmp_path / "dogs")
    assert torch.equal(loaded.mean_3HW, MEAN)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert not loaded.model.training
    assert loaded.about.classes[2].name == "dog 2"
    assert loaded.whole_mean_3SS is None


def test_a_mean_that_depends_on_the_place_of_a_view(tmp_path: Path) -> None:
    whole = torch.rand(3, 72, 72)
    save(model(0), whole[:, 4:68, 4:68], about(), tmp_path, whole)
    loaded = load(tmp_path / "dogs")
    assert loaded.whole_mean_3SS is not None
    assert torch.equal(loaded.whole_mean_3SS, whole)
    assert torch.equal(loaded.mean_3HW, whole[:, 4:68, 4:68])


def test_the_pointer_follows_the_newest_and_old_steps_stay(tmp_path: Path) -> None:
    save(model(0), MEAN, about(7), tmp_path)
    save(model(1), MEAN, about(9), tmp_path)
    assert load(tmp_path / "dogs").about.step == 9
    assert load(tmp_path / "dogs" / "00000007").about.step == 7
    assert sorted(path.name for path in (tmp_path / "dogs").iterdir()) == [
        "00000007", "00000009", "current.json",
    ]  # fmt: skip


def test_other_weights_of_the_same_step_are_refused(tmp_path: Path) -> None:
    save(model(0), MEAN, about(), tmp_path)
    save(model(0), MEAN, about(), tmp_path)
    with pytest.raises(CheckpointError, match="under this name and step; choose another name"):
        save(model(1), MEAN, about(), tmp_path)


def test_published_again_it_has_what_was_measured_since(tmp_path: Path) -> None:
    """A reader finds the old accuracy or the new one, and the weights that stay."""

    def measured(*top1: int) -> About:
        counts = [
            Accuracy(views=views, pictures=200, top1=right, top5=200)
            for views, right in zip((1, 10), top1, strict=False)
        ]
        return about().model_copy(update={"accuracy": tuple(counts)})

    saved = model(0)
    directory = save(saved, MEAN, measured(0, 5), tmp_path)
    written = (directory / "model.safetensors").stat().st_mtime_ns
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(
            lambda: [save(saved, MEAN, measured(top1), tmp_path) for top1 in range(1, 30)]
        )
        seen = [0]
        while not writing.done():
            one, ten = load(tmp_path / "dogs").about.accuracy
            seen.append(one.top1)
            assert (one.views, ten.views, ten.top1) == (1, 10, 5)
        writing.result()
    assert seen == sorted(seen)
    assert load(tmp_path / "dogs").about.accuracy == measured(29, 5).accuracy
    assert (directory / "model.safetensors").stat().st_mtime_ns == written


def calibration(temperature: float, views: int = 10) -> Calibration:
    errors = Errors(ece=0.1, nll=1.0)
    return Calibration(
        temperature=temperature, views=views, dataset="d" * 64, pictures=20, before=errors,
        after=errors,
    )  # fmt: skip


def test_a_calibration_is_kept_with_the_weights(tmp_path: Path) -> None:
    """Also when they are published again; a new one takes its place, other weights have none."""
    directory = save(model(0), MEAN, about(), tmp_path)
    before = load(directory).about
    assert (before.calibrations, before.temperature(10)) == ((), 1.0)
    ten, one = calibration(1 / 3), calibration(0.7, views=1)
    calibrate(directory, [ten])
    calibrate(directory, [one])
    save(model(0), MEAN, about(), tmp_path)
    found = load(directory).about
    assert (found.temperature(1), found.temperature(10)) == (0.7, 1 / 3)
    assert found == before.model_copy(update={"calibrations": (one, ten)})
    calibrate(directory, [calibration(2.5)])
    found = load(directory).about
    assert (found.temperature(1), found.temperature(10)) == (0.7, 2.5)
    save(model(1), MEAN, about(9), tmp_path)
    assert load(tmp_path / "dogs").about.calibrations == ()


@pytest.mark.parametrize("place", [0.001, 0.3, 0.999])
def test_a_flipped_bit_in_the_weights_is_refused(tmp_path: Path, place: float) -> None:
    weights = save(model(0), MEAN, about(), tmp_path) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[int(place * len(data))] ^= 1
    weights.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: the file is damaged: its SHA-256 is"
    ):
        load(tmp_path / "dogs")


def test_models_published_before_rules_had_names_load(tmp_path: Path) -> None:
    directory = save(model(0), MEAN, about(), tmp_path)
    fields = json.loads((directory / "about.json").read_text())
    del fields["rule"]
    for option in (
        "kernels",
        "conv1_padding",
        "norm_k",
        "norm_across_towers",
        "norm_after_pool",
        "order",
    ):
        del fields["network"][option]
    (directory / "about.json").write_text(json.dumps(fields))
    loaded = load(directory).about
    assert loaded.rule == ImageRule(framing="crop", filter="bicubic")
    assert loaded.network == NETWORK


def test_each_fault_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no published model"):
        load(tmp_path / "cats")
    directory = save(model(0), MEAN, about(), tmp_path)
    fields = json.loads((directory / "about.json").read_text())
    (directory / "about.json").write_text(json.dumps(fields | {"version": 2}))
    with pytest.raises(CheckpointError, match=r"about.json: version is 2: .*another version"):
        load(directory)
    (tmp_path / "dogs" / "current.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"current.json: the file does not name"):
        load(tmp_path / "dogs")


def test_weights_beyond_all_bounds_are_not_read(tmp_path: Path) -> None:
    directory = save(model(0), MEAN, about(), tmp_path)
    fields = json.loads((directory / "about.json").read_text())
    fields["network"] |= {"kernels": [4096] * 5, "width": 4}
    (directory / "about.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"weights; the limit is 1,073,741,824"):
        load(directory)
