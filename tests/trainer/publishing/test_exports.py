"""What other programs compute from an exported model, against the model."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from alexnet.calibration import Calibration, Errors
from alexnet.checkpoint import About, Checkpoint, load, now, save
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.config import Ablation
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import ImageRule
from alexnet.views import probabilities
from trainer.publishing.exports import export, traced

BATCHES = (1, 3, 10)
NETWORK = AlexNetConfig(classes=7, width=0.1, crop=64)
ABLATIONS = [
    Ablation(removed="conv3"),
    Ablation(removed="conv4", links=False),
    Ablation(removed="conv5", inverted_dropout=True),
]
IMAGE_N3HW = torch.randint(
    0, 256, (10, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)


def checkpoint(network: AlexNetConfig) -> Checkpoint:
    torch.manual_seed(0)
    model = AlexNet(network).eval().requires_grad_(False)
    for name, tensor in model.named_parameters():  # answers that differ between images
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(tensor)
        else:
            torch.nn.init.normal_(tensor, 0, 0.1)
    model.conv1.weight /= 70
    about = About(
        name="tiny", step=12, network=network, size=72, rule=ImageRule(framing="squash"),
        classes=tuple(ClassLabel(id=f"n{i}", name=f"class {i}") for i in range(7)),
        dataset="d", recipe={}, trained_at=now(), versions={},
    )  # fmt: skip
    return Checkpoint(model, 100 * torch.rand(3, 64, 64), about)


def expected(model: Checkpoint) -> Tensor:
    """(10, 7) probabilities of IMAGE_N3HW, all different."""
    probability_NK = probabilities(model.model, IMAGE_N3HW, model.mean_3HW, views=1)
    assert probability_NK.std(dim=0).max() > 1e-3
    return probability_NK


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, mean_3HW, about, _ = checkpoint(NETWORK)
    models = tmp_path_factory.mktemp("models")
    save(model, mean_3HW, about, models)
    return models / "tiny"


@pytest.mark.slow
def test_onnxruntime_gives_the_same_answers(published: Path, tmp_path: Path, run: Callable) -> None:
    out = tmp_path / "tiny.onnx"
    done = run("trainer", "export", published, out)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    onnx.checker.check_model(out, full_check=True)
    assert sys.prefix.encode() not in out.read_bytes()  # nor any other path of this machine
    session = onnxruntime.InferenceSession(out)
    for size in BATCHES:
        (found_NK,) = session.run(["probability_NK"], {"image_N3HW": IMAGE_N3HW[:size].numpy()})
        np.testing.assert_allclose(found_NK, expected(load(published))[:size], rtol=0, atol=1e-6)
    about = session.get_modelmeta().custom_metadata_map["about.json"]
    assert About.model_validate_json(about) == load(published).about


def test_a_calibrated_model_is_exported_with_its_temperature() -> None:
    model, errors = checkpoint(NETWORK), Errors(ece=0.1, nll=1.0)
    hot = Calibration(
        temperature=2.5, views=1, dataset="d", pictures=20, before=errors, after=errors
    )
    about = model.about.model_copy(update={"calibrations": (hot,)})
    found_NK = traced(model._replace(about=about)).module()(IMAGE_N3HW)
    logit_NK = model.model(IMAGE_N3HW.float() - model.mean_3HW)
    torch.testing.assert_close(found_NK, (logit_NK / 2.5).softmax(1), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 20, 25])
def test_the_opset_that_is_asked_for_is_written(
    published: Path, tmp_path: Path, opset: int
) -> None:
    out = tmp_path / "tiny.onnx"
    export(published, out, opset)
    onnx.checker.check_model(out, full_check=True)
    imports = onnx.load(out).opset_import
    assert [(one.domain, one.version) for one in imports] == [("", opset)]
    (found_NK,) = onnxruntime.InferenceSession(out).run(None, {"image_N3HW": IMAGE_N3HW.numpy()})
    np.testing.assert_allclose(found_NK, expected(load(published)), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [7, 17])
def test_an_opset_that_cannot_be_written_leaves_no_file(
    published: Path, tmp_path: Path, opset: int
) -> None:
    """torch writes another without an error."""
    with pytest.raises(UserError, match=f"--opset is {opset}, but the installed .* write 18 inste"):
        export(published, tmp_path / "tiny.onnx", opset)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_torch_alone_gives_the_same_answers(published: Path, tmp_path: Path) -> None:
    export(published, tmp_path / "tiny.pt2")
    np.save(tmp_path / "images.npy", IMAGE_N3HW.numpy())
    code = f"""
import sys, numpy, torch
about = {{"about.json": ""}}
model = torch.export.load("tiny.pt2", extra_files=about).module()
images = torch.from_numpy(numpy.load("images.npy"))
for size in {BATCHES}:
    numpy.save(f"{{size}}.npy", model(images[:size]).numpy())
print([name for name in ("alexnet", "trainer") if name in sys.modules], about["about.json"])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, text=True, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for size in BATCHES:
        found_NK = np.load(tmp_path / f"{size}.npy")
        np.testing.assert_allclose(found_NK, expected(load(published))[:size], rtol=0, atol=1e-6)
    loaded, about = done.stdout.split(maxsplit=1)
    assert loaded == "[]"
    assert About.model_validate_json(about) == load(published).about


@pytest.mark.parametrize(
    "options",
    [
        {"norm_k": 1.0, "norm_across_towers": True},
        {"norm_k": 1.0, "norm_across_towers": True, "norm_after_pool": True},
        {"towers": 1, "conv1_padding": 2, "local_response_norm": False},
        {"order": "released"},
        {"towers": 1, "pooling": "plain", "activation": "tanh", "sixth_conv": True},
        *({"ablation": ablation} for ablation in ABLATIONS),
    ],
)
def test_every_option_is_in_the_graph(options: dict) -> None:
    model = checkpoint(NETWORK.model_copy(update=options))
    found_NK = traced(model).module()(IMAGE_N3HW)
    torch.testing.assert_close(found_NK, expected(model), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_onnxruntime_gives_the_answers_of_an_ablated_network(
    ablation: Ablation, tmp_path: Path
) -> None:
    model = checkpoint(NETWORK.model_copy(update={"ablation": ablation}))
    save(*model[:3], tmp_path)
    out = tmp_path / "tiny.onnx"
    export(tmp_path / "tiny", out)
    (found_NK,) = onnxruntime.InferenceSession(out).run(None, {"image_N3HW": IMAGE_N3HW.numpy()})
    np.testing.assert_allclose(found_NK, expected(load(tmp_path / "tiny")), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(published: Path, tmp_path: Path) -> None:
    for name in ("a.pt2", "b.pt2"):
        export(published, tmp_path / name)
    assert (tmp_path / "a.pt2").read_bytes() == (tmp_path / "b.pt2").read_bytes()


def test_bad_words_are_one_line_and_exit_2(published: Path, tmp_path: Path, run: Callable) -> None:
    done = run("trainer", "export", published, tmp_path / "a.pb")
    assert done.returncode == 2
    assert "a.pb: ends in '.pb'; expected .onnx or .pt2" in done.stderr
    assert done.stderr.count("\n") == 1
    for opset, bound in ((17, "at least 18"), (26, "at most 25")):
        done = run("trainer", "export", published, tmp_path / "a.onnx", "--opset", str(opset))
        assert done.returncode == 2
        assert f"--opset is {opset}: expected {bound}" in done.stderr
        assert done.stderr.count("\n") == 1
    with pytest.raises(UserError, match=r"a.pt2: --opset is for ONNX; leave it out"):
        export(published, tmp_path / "a.pt2", 18)
    with pytest.raises(UserError, match="cats: there is no published model"):
        export(tmp_path / "cats", tmp_path / "a.pt2")
