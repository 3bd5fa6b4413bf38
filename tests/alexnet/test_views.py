"""Views and the mean of their probabilities, against slices and loops written out."""

import numpy as np
import pytest
import torch

from alexnet.views import centre_mean, one_view, probabilities, ten_views, view_probabilities


def test_ten_views_are_ten_slices() -> None:
    image = torch.randint(0, 256, (2, 3, 256, 256), dtype=torch.uint8)
    corners = [
        image[:, :, 0:224, 0:224],
        image[:, :, 0:224, 32:256],
        image[:, :, 16:240, 16:240],
        image[:, :, 32:256, 0:224],
        image[:, :, 32:256, 32:256],
    ]
    found = ten_views(image, 224)
    assert found.shape == (2, 10, 3, 224, 224)
    for number, corner in enumerate(corners):
        assert torch.equal(found[:, number], corner)
        assert torch.equal(found[:, number + 5], corner[..., range(223, -1, -1)])
    assert torch.equal(one_view(image, 224)[:, 0], corners[2])


def test_the_mean_is_cut_from_its_centre() -> None:
    mean = np.random.default_rng(0).random((256, 256, 3), np.float32)
    expected = mean[16:240, 16:240].transpose(2, 0, 1)
    assert np.array_equal(centre_mean(mean, 224).numpy(), expected)


@pytest.mark.parametrize("views", [1, 10])
def test_probabilities_are_averaged_over_views_not_logits(views: int) -> None:
    weight = torch.randn(5, 3 * 8 * 8, generator=torch.Generator().manual_seed(0))

    def model(image_NCHW: torch.Tensor) -> torch.Tensor:
        return image_NCHW.flatten(1) @ weight.T / 50

    image = torch.randint(0, 256, (3, 3, 10, 10), dtype=torch.uint8)
    mean = torch.full((3, 8, 8), 100.0)
    cut = ten_views(image, 8) if views == 10 else one_view(image, 8)
    expected = torch.stack(
        [
            torch.stack([model((view - mean)[None])[0].softmax(0) for view in all_views]).mean(0)
            for all_views in cut
        ]
    )
    torch.testing.assert_close(probabilities(model, image, mean, views), expected)


@pytest.mark.parametrize("views", [1, 10])
def test_a_whole_mean_is_subtracted_at_the_place_of_each_view(views: int) -> None:
    """Pixel by pixel, before the view is cut and mirrored."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3 * 8 * 8, generator=generator)

    def model(image_NCHW: torch.Tensor) -> torch.Tensor:
        return image_NCHW.flatten(1) @ weight.T / 50

    image = torch.randint(0, 256, (2, 3, 10, 10), dtype=torch.uint8, generator=generator)
    mean = 255 * torch.rand(3, 10, 10, generator=generator)
    less = torch.empty(2, 3, 10, 10)
    for place in np.ndindex(less.shape):
        less[place] = image[place].item() - mean[place[1:]].item()
    cut = ten_views(less, 8) if views == 10 else one_view(less, 8)
    expected = model(cut.flatten(0, 1)).softmax(1).unflatten(0, (2, views))
    centre = mean[:, 1:9, 1:9]
    found = view_probabilities(model, image, centre, views, whole_mean_3SS=mean)
    torch.testing.assert_close(found, expected)
