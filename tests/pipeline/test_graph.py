"""The GPU graphs, defined where there is no GPU: DALI checks devices and arguments by then."""

from typing import get_args

import numpy as np
import pytest
from nvidia.dali import fn, pipeline_def

from pipeline.graph import Output, PixelRule, train_graph, whole_graph

OPTIONS = {"batch_size": 4, "num_threads": 1, "device_id": None}


@pytest.mark.parametrize("output", get_args(Output))
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize(("gpu", "hw_load"), [(False, 0.5), (True, 0.5), (True, None)])
def test_both_graphs_put_everything_on_one_device(
    gpu: bool, hw_load: float | None, scale: bool, output: Output
) -> None:
    rule = PixelRule(size=128, scale=scale, gpu=gpu, hw_load=hw_load)
    for mean_HW3 in (None, np.zeros((112, 112, 3), np.float32)):
        pipe = train_graph((), rule, 112, mean_HW3, output, **OPTIONS)
        devices = [node.device for node in pipe._graph_out]
        assert devices == (["gpu"] * 4 if gpu else ["cpu"] * 6)
    pipe = whole_graph((), rule, **OPTIONS)
    assert [node.device for node in pipe._graph_out] == [("cpu", "gpu")[gpu]] * 4


def test_a_misplaced_argument_is_caught_by_definition() -> None:
    @pipeline_def
    def wrong():  # type: ignore[no-untyped-def]
        image = fn.random.uniform(shape=[8, 8, 3]).gpu()
        return fn.crop(image, crop=(4, 4), crop_pos_x=fn.random.uniform().gpu())

    with pytest.raises(ValueError, match="must be on CPU"):
        wrong(**OPTIONS)
