"""The network of torch's own layers is ours."""

import pytest
import torch

from alexnet.model import AlexNet, AlexNetConfig
from tests.benchmarks.network import plain


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_peer_is_the_same_network(towers: int, dropout: float) -> None:
    config = AlexNetConfig(width=0.1, crop=64, classes=12, towers=towers, dropout=dropout)
    ours = AlexNet(config).eval()
    image_NCHW = 70 * torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(plain(ours)(image_NCHW), ours(image_NCHW))
