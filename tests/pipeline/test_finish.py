"""The CPU's mirror, colour and mean against those of DALI, which a GPU uses, and against numpy."""

from typing import get_args

import numpy as np
import pytest
import torch
from nvidia.dali import fn, pipeline_def, types

from pipeline.finish import Finisher
from pipeline.graph import Output, normalised

SAMPLES, SIDE = 9, 24
random = np.random.default_rng(0)
IMAGE_NHW3 = random.integers(0, 256, (SAMPLES, SIDE, SIDE, 3), dtype=np.uint8)
MIRROR_N = random.integers(0, 2, SAMPLES, dtype=np.int32)
MEAN_N3 = random.normal(0, 20, (SAMPLES, 3)).astype(np.float32)
MEAN_HW3 = random.uniform(0, 255, (SIDE, SIDE, 3)).astype(np.float32)


@pipeline_def(batch_size=SAMPLES, num_threads=1, device_id=None)
def dali_graph(mean_HW3: np.ndarray | None, output: Output):  # type: ignore[no-untyped-def]
    image, mirror, mean = fn.external_source(
        source=iter([(IMAGE_NHW3, MIRROR_N, MEAN_N3)]),
        num_outputs=3,
        layout=["HWC", None, None],
        dtype=[types.UINT8, types.INT32, types.FLOAT],
    )
    return normalised(image, mirror, mean, mean_HW3, output, device="cpu")


@pytest.mark.parametrize("output", get_args(Output))
@pytest.mark.parametrize("mean_HW3", [None, MEAN_HW3], ids=["channel", "pixel"])
def test_it_is_what_dali_makes_of_it(output: Output, mean_HW3: np.ndarray | None) -> None:
    if output == "uint8":
        mean_N3, mean_HW3 = np.zeros_like(MEAN_N3), None
    else:
        mean_N3 = MEAN_N3
    found = Finisher(mean_HW3, output)(*map(torch.tensor, (IMAGE_NHW3, MIRROR_N, mean_N3)))
    mirrored = np.where(MIRROR_N[:, None, None, None] == 1, IMAGE_NHW3[:, :, ::-1], IMAGE_NHW3)
    expected = mirrored - mean_N3[:, None, None] - (0 if mean_HW3 is None else mean_HW3)
    assert str(found.dtype) == f"torch.{output}"
    assert np.abs(found.numpy() - expected).max() < (0.13 if output == "float16" else 1e-4)
    if output == "uint8":
        return
    (dali,) = dali_graph(mean_HW3, output).run()
    theirs = torch.from_dlpack(dali.as_tensor())
    if output == "float16":  # ties are rounded another way
        torch.testing.assert_close(found, theirs, atol=0, rtol=2**-10)
    else:
        assert torch.equal(found, theirs)


def test_a_batch_keeps_its_pixels_as_long_as_a_view_of_it_is_held() -> None:
    finisher = Finisher(MEAN_HW3, "float32")

    def batch(value: int) -> torch.Tensor:
        image_NHW3 = torch.full((SAMPLES, SIDE, SIDE, 3), value, dtype=torch.uint8)
        return finisher(image_NHW3, torch.zeros(SAMPLES), torch.zeros(SAMPLES, 3))

    view = batch(1)[2:3].permute(0, 3, 1, 2)
    before, place = view.clone(), view.data_ptr()
    others = [batch(value) for value in (2, 3, 4)]
    assert torch.equal(view, before)
    assert len({other.data_ptr() for other in others}) == 3
    places = {other.data_ptr() for other in others}
    del others
    assert batch(5).data_ptr() in places
    assert batch(6).data_ptr() != place
