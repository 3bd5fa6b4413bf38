"""docs/library.md prints what its lines give, in an interpreter of its own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from alexnet.checkpoint import About, save
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import whole_image
from alexnet.predictor import centre_features
from pipeline.sources.builtin import builtin_source
from tests.conftest import ROOT

SIZE, CROP = 160, 144
FITTED = 400
"""Training images."""

DOCTEST = r"""
import doctest, re, sys

class Checker(doctest.OutputChecker):
    def check_output(self, want, got, flags):
        return settled(want) == settled(got)

def settled(text):
    "Without what the weights decide: figures, and which labels come after the first."
    first, *others = text.splitlines() or [""]
    others = [re.sub(r"%  \w+$", "%", line) for line in others]
    return re.sub(r" *\d+\.\d+", "#", "\n".join([first, *others]))

page = sys.stdin.read()
test = doctest.DocTestParser().get_doctest(page, {}, "library.md", "library.md", 0)
found = doctest.DocTestRunner(Checker()).run(test)
print(found.attempted, "lines run")
sys.exit(bool(found.failed))
"""


def test_the_page_prints_what_it_says(tmp_path: Path) -> None:
    publish_shapes(tmp_path / "models")
    source = builtin_source()
    for sample in source.splits["val"]:
        if sample.key in ("disc/00000", "ring/00001"):
            path = tmp_path / f"{sample.key}.jpg"
            path.parent.mkdir()
            path.write_bytes(source.reader.read(sample.location))
    for name in ("hubconf.py", "alexnet"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = (ROOT / "docs" / "library.md").read_text()
    done = subprocess.run(
        [sys.executable, "-c", DOCTEST], input=page, cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = sum(line.startswith(">>> ") for line in page.splitlines())
    assert done.stdout == f"{lines} lines run\n"


def publish_shapes(models: Path) -> None:
    """A network of recipe `small` that knows the drawn images without training: its last layer
    is solved for, by ridge regression on the features of a random network."""
    torch.manual_seed(0)
    source = builtin_source()
    network = AlexNetConfig(classes=len(source.classes), width=0.5, crop=CROP)
    model, mean_3HW = AlexNet(network).eval(), torch.full((3, CROP, CROP), 120.0)
    samples = source.splits["train"][:FITTED]
    images = [whole_image(source.reader.read(s.location), SIZE) for s in samples]
    image_N3SS = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    parts = [centre_features(model, part, mean_3HW) for part in image_N3SS.split(50)]
    feature_NH = torch.cat(parts).double()
    target_NK = 20 * F.one_hot(torch.tensor([s.label for s in samples])).double()
    centre_H, centre_K = feature_NH.mean(0), target_NK.mean(0)
    centred_NH = feature_NH - centre_H
    kernel_NN = centred_NH @ centred_NH.T
    kernel_NN += kernel_NN.diag().mean() / 100 * torch.eye(FITTED, dtype=torch.float64)
    weight_KH = torch.linalg.solve(kernel_NN, target_NK - centre_K).T @ centred_NH
    with torch.no_grad():
        model.fc8.weight.copy_(weight_KH)
        model.fc8.bias.copy_(centre_K - weight_KH @ centre_H)
    about = About(
        name="shapes", step=1, network=network, classes=source.classes, size=SIZE, dataset=None,
        recipe={}, trained_at=None, versions={},
    )  # fmt: skip
    save(model, mean_3HW, about, models)
