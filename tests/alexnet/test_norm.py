"""Local response normalisation against its definition, written out."""

import pytest
import torch
from torch import Tensor

from alexnet.norm import LocalResponseNorm, norm_over_positions


def response_norm_as_a_loop(x_NCHW: Tensor, towers: int, k: float) -> Tensor:
    """§3.3 with alpha divided by the window, written out over channels."""
    result, maps = torch.empty_like(x_NCHW), x_NCHW.shape[1] // towers
    for channel in range(x_NCHW.shape[1]):
        tower = channel // maps
        first = max(tower * maps, channel - 2)
        last = min((tower + 1) * maps - 1, channel + 2)
        total = sum(x_NCHW[:, other] ** 2 for other in range(first, last + 1))
        result[:, channel] = x_NCHW[:, channel] / (k + 1e-4 / 5 * total) ** 0.75
    return result


def norm_over_positions_as_a_loop(x_NCHW: Tensor) -> Tensor:
    """`cnorm2`: scale=0.001 divided by 25 positions, pow=0.75, size=5 (layer-params-145.cfg)."""
    result = torch.empty_like(x_NCHW)
    rows, columns = x_NCHW.shape[2:]
    for y in range(rows):
        for x in range(columns):
            window = x_NCHW[..., max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            total = (window**2).sum((2, 3))
            result[..., y, x] = x_NCHW[..., y, x] / (1 + 0.001 / 25 * total) ** 0.75
    return result


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2**-8)]
)
def test_the_norm_over_positions_is_its_loop(dtype: torch.dtype, most: float) -> None:
    torch.manual_seed(3)
    x_NCHW = (50 * torch.randn(2, 3, 7, 6, dtype=torch.float64)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm_over_positions(x_NCHW)
    expected = norm_over_positions_as_a_loop(x_NCHW.double())
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=most, atol=1e-6)


@pytest.fixture(params=["processor", "GPU"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of computing it, here on a processor."""
    monkeypatch.setattr("alexnet.norm._few_launches", lambda x: request.param == "GPU")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("part_bytes", [1, 1000, 2**21])
@pytest.mark.parametrize(("towers", "k"), [(1, 2.0), (2, 2.0), (2, 1.0)])
def test_response_norm_is_the_loop_of_section_3_3(
    towers: int,
    k: float,
    part_bytes: int,
    memory_format: torch.memory_format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alexnet.norm.CACHED_BYTES", part_bytes)
    monkeypatch.setattr("alexnet.norm.MOST_POOLED", part_bytes)
    torch.manual_seed(0)
    x = 150 * torch.randn(3, 12, 5, 4, dtype=torch.float64)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    found = LocalResponseNorm.apply(x, towers, k)
    expected = response_norm_as_a_loop(x, towers, k)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(x)
    (gradient,) = torch.autograd.grad((found * weight).sum(), x)
    (reference,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(gradient, reference)


@pytest.mark.usefixtures("way")
def test_its_gradient_is_the_derivative() -> None:
    torch.manual_seed(1)
    x = 100 * torch.randn(2, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LocalResponseNorm.apply, (x, 2))


def test_response_norm_of_one_tower_is_torchs_own() -> None:
    x = 100 * torch.randn(2, 16, 6, 6)
    torch.testing.assert_close(
        LocalResponseNorm.apply(x, 1), torch.nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(x)
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("dtype", "most"),
    [(torch.float32, 2e-6), (torch.bfloat16, 2**-8), (torch.float16, 2**-11)],
)
def test_16_bits_round_the_result_alone(dtype: torch.dtype, most: float, autocast: bool) -> None:
    """Relative to float64 of the same input, activations of deviation 13 and gradients. In
    bfloat16 the base would be 2 in most places, and the factor 2^-0.75."""
    torch.manual_seed(2)
    shape = 4, 32, 9, 9
    x_NCHW = (13 * torch.randn(shape)).to(dtype).requires_grad_()
    weight_NCHW = torch.randn(shape).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = LocalResponseNorm.apply(x_NCHW, 2)
    (gradient,) = torch.autograd.grad(found, x_NCHW, weight_NCHW)
    exact_NCHW = x_NCHW.detach().double().requires_grad_()
    expected = response_norm_as_a_loop(exact_NCHW, 2, 2.0)
    (reference,) = torch.autograd.grad(expected, exact_NCHW, weight_NCHW.double())
    assert found.dtype == gradient.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=most, atol=1e-6)
    torch.testing.assert_close(gradient.double(), reference, rtol=most, atol=1e-6)
    factor = found.double().abs().sum() / exact_NCHW.abs().sum()
    assert 2**-0.75 - factor > 0.001
    true = expected.abs().sum() / exact_NCHW.abs().sum()
    torch.testing.assert_close(factor, true, rtol=1e-4, atol=0)
