"""Answers of a model, and of several, against the same computed image by image."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from alexnet.calibration import Calibration, Errors, Threshold
from alexnet.checkpoint import Checkpoint, CheckpointError, load
from alexnet.command import UserError
from alexnet.predictor import BATCH_VIEWS, Predictor, padded_rows
from alexnet.views import one_view, view_logits, view_probabilities
from tests.serving.conftest import SIZE, publish


@pytest.fixture(scope="module")
def images() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=random)


def test_several_models_answer_by_the_mean_of_each_view(tmp_path: Path, images: Tensor) -> None:
    members = [load(publish(tmp_path, f"m{seed}", seed=seed)) for seed in range(3)]
    expected = torch.stack(
        [view_probabilities(m.model, images, m.mean_3HW, 10) for m in members]
    ).mean(0)
    together = Predictor(members)
    torch.testing.assert_close(together.classify(images, 10), expected, rtol=0, atol=1e-6)


def calibrated(
    checkpoint: Checkpoint, temperature: float, threshold: float | None = None, views: int = 10
) -> Checkpoint:
    errors = Errors(ece=0.1, nll=1.0)
    found = threshold and Threshold(min_probability=threshold, target=0.9, answered=10, right=9)
    calibration = Calibration(
        temperature=temperature, views=views, dataset="d" * 64, pictures=20, before=errors,
        after=errors, threshold=found or None,
    )  # fmt: skip
    return checkpoint._replace(
        about=checkpoint.about.model_copy(update={"calibrations": (calibration,)})
    )


@pytest.mark.parametrize("views", [1, 10])
def test_each_member_answers_by_its_own_temperature(
    tmp_path: Path, images: Tensor, views: int
) -> None:
    plain = [load(publish(tmp_path, f"m{seed}", seed=seed)) for seed in range(2)]
    hot = calibrated(plain[0], 2.5, views=views)
    expected_MNVK = [
        (view_logits(m.model, images, m.mean_3HW, views) / t).softmax(2)
        for m, t in zip(plain, (2.5, 1.0), strict=True)
    ]
    together = Predictor([hot, plain[1]])
    torch.testing.assert_close(
        together.classify(images, views), torch.stack(expected_MNVK).mean(0), rtol=0, atol=1e-6
    )
    assert together.calibrated == ()
    alone = Predictor([hot])
    assert alone.calibrated == (views,)
    torch.testing.assert_close(alone.classify(images, views), expected_MNVK[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("views", [1, 10])
@torch.inference_mode()
def test_without_a_temperature_no_bit_changes(
    checkpoint: Checkpoint, images: Tensor, views: int
) -> None:
    predictor = Predictor([checkpoint])
    logit_NVK = view_logits(checkpoint.model, images, checkpoint.mean_3HW, views)
    expected = logit_NVK.flatten(0, 1).softmax(dim=1).unflatten(0, (2, views))
    assert torch.equal(predictor.classify(images, views), expected)


def test_the_threshold_is_for_the_views_that_it_was_found_with(checkpoint: Checkpoint) -> None:
    one = calibrated(checkpoint, 1.5, threshold=0.6)
    assert Predictor([one]).min_probability(10) == 0.6
    assert Predictor([one]).min_probability(1) is None
    assert Predictor([one, one]).min_probability(10) is None
    assert Predictor([calibrated(checkpoint, 1.5)]).min_probability(10) is None
    assert Predictor([checkpoint]).min_probability(10) is None


def test_models_of_other_classes_do_not_answer_together(checkpoint: Checkpoint) -> None:
    about = checkpoint.about.model_copy(update={"classes": checkpoint.about.classes[::-1]})
    with pytest.raises(CheckpointError, match="their classes differ; use them one by one"):
        Predictor([checkpoint, checkpoint._replace(about=about)])


def test_features_are_the_last_hidden_layer(checkpoint: Checkpoint, images: Tensor) -> None:
    features = Predictor([checkpoint]).features(images)
    logits = checkpoint.model.fc8(features)
    view = one_view(images, 64)[:, 0] - checkpoint.mean_3HW
    torch.testing.assert_close(logits, checkpoint.model(view), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [8, 64, 640])
def test_padding_leaves_few_numbers_and_adds_less_than_half(most: int) -> None:
    numbers = range(1, most + 1)
    padded = [padded_rows(rows, most) for rows in numbers]
    assert all(rows <= found <= most for rows, found in zip(numbers, padded, strict=True))
    assert all(2 * (found - rows) < rows for rows, found in zip(numbers, padded, strict=True))
    assert len(set(padded)) <= 2 * most.bit_length()
    assert [padded_rows(found, most) for found in padded] == padded
    assert padded_rows(most + 1, most) == most + 1


@pytest.mark.parametrize("views", [10, 1])
def test_padded_batches_get_the_same_answers_in_sizes_that_are_warm(
    checkpoint: Checkpoint, views: int
) -> None:
    """Padded as on a GPU, but on the CPU."""
    plain, padding = (Predictor([checkpoint], "cpu") for _ in range(2))
    padding.pads = True
    seen: list[int] = []
    hook = checkpoint.model.fc8.register_forward_pre_hook(
        lambda _, arguments: seen.append(len(arguments[0]))
    )
    padding.warm()
    warm, most = set(seen), BATCH_VIEWS["cpu"] // views
    random = torch.Generator().manual_seed(1)
    for rows in sorted({min(rows, most) for rows in (1, 2, 3, 5, 7, most - 1, most)}):
        shape = rows, 3, SIZE, SIZE
        image_N3SS = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
        expected = plain.classify(image_N3SS, views)
        seen.clear()
        found = padding.classify(image_N3SS, views)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert warm.issuperset(seen)
    hook.remove()
    features = padding.features(image_N3SS[:5])
    torch.testing.assert_close(features, plain.features(image_N3SS[:5]), rtol=1e-4, atol=1e-5)


def test_on_a_cpu_nothing_is_padded_nor_warmed(checkpoint: Checkpoint) -> None:
    predictor = Predictor([checkpoint], "cpu")
    assert (predictor.pads, predictor.device_name) == (False, "cpu")
    seen: list[object] = []
    with checkpoint.model.fc8.register_forward_pre_hook(lambda *_: seen.append(_)):
        predictor.warm()
    assert not seen


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("gpu", "device is 'gpu'; expected 'cpu', 'cuda' or 'cuda:1' and so on"),
        ("mps", "device is 'mps'; expected 'cpu'"),
        ("cuda:99", "device is 'cuda:99', and torch finds . GPUs; give device='cpu', or none"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    checkpoint: Checkpoint, device: str, text: str
) -> None:
    with pytest.raises(UserError, match=text):
        Predictor([checkpoint], device)
