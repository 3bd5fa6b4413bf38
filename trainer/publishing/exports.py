"""A published model -> one file for other programs: ONNX, or torch.export's.

What either takes is `image_N3HW`, uint8 RGB crops of (N, 3, crop, crop), and what it gives is
`probability_NK`, float32; the mean, the softmax and the temperature of a calibrated model are
inside. The model's about.json goes with it, as metadata `about.json` of the ONNX file and as a file
of that name in torch's: it holds the classes, and the rule and size of the image that a crop is cut
from.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from alexnet import atomic
from alexnet.checkpoint import Checkpoint
from alexnet.command import UserError
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.norm import LocalResponseNorm
from alexnet.store.models import load
from alexnet.store.url import Place

ABOUT = "about.json"
INPUT, OUTPUT = "image_N3HW", "probability_NK"


def export(model: Place, out: Path, opset: int | None = None) -> None:
    """Write the published `model` to `out`, whose ending says how: .onnx or .pt2.

    `opset` is the version of ONNX's operators, torch's preferred one where it is None. Raises
    UserError for any other ending or an opset that cannot be written, and CheckpointError.
    """
    if out.suffix == ".onnx":
        atomic.write(out, onnx_bytes(load(model), opset))
    elif out.suffix != ".pt2":
        raise UserError(f"{out}: ends in {out.suffix!r}; expected .onnx or .pt2")
    elif opset is not None:
        raise UserError(f"{out}: --opset is for ONNX; leave it out, or write a file .onnx")
    else:
        atomic.write(out, pt2_bytes(load(model)))


def pt2_bytes(checkpoint: Checkpoint) -> bytes:
    """A program for `torch.export.load`; torch alone is needed to run it."""
    file = io.BytesIO()
    about = {ABOUT: checkpoint.about.model_dump_json(indent=2)}
    torch.export.save(traced(checkpoint), file, extra_files=about)
    return file.getvalue()


def onnx_bytes(checkpoint: Checkpoint, opset: int | None) -> bytes:
    """A self-contained ONNX model, of operators of that version."""
    if find_spec("onnxscript") is None:
        raise UserError("torch writes ONNX with onnxscript; pip install -e '.[export]'")
    with _without_asides():
        program = torch.onnx.export(
            traced(checkpoint),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: "N"}},  # only names the dimension
            verbose=False,
            opset_version=opset,
        )
    assert program is not None
    written = program.model.opset_imports[""]
    if opset not in (None, written):  # what cannot be converted is left as it was
        raise UserError(
            f"--opset is {opset}, but the installed torch and onnxscript write {written} instead; "
            "ask for another, or install newer versions"
        )
    program.model.metadata_props[ABOUT] = checkpoint.about.model_dump_json()
    return program.model_proto.SerializeToString()


def traced(checkpoint: Checkpoint) -> ExportedProgram:
    """The graph from pixels to probabilities, for any number of images."""
    crop = checkpoint.about.network.crop
    two_N3HW = torch.zeros(2, 3, crop, crop, dtype=torch.uint8)  # one would be taken for all
    program = torch.export.export(
        PixelsToProbabilities(checkpoint).eval(),
        (two_N3HW,),
        dynamic_shapes={INPUT: {0: Dim("N", min=1)}},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


class PixelsToProbabilities(nn.Module):
    mean_3HW: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = PlainAlexNet(checkpoint.about.network)
        self.network.load_state_dict(checkpoint.model.state_dict(), assign=True)
        self.register_buffer("mean_3HW", checkpoint.mean_3HW)
        self.requires_grad_(False)
        self.temperature = checkpoint.about.temperature(views=1)

    def forward(self, image_N3HW: Tensor) -> Tensor:
        """(N, 3, crop, crop) uint8 -> (N, K) float32."""
        logit_NK = self.network(image_N3HW.float() - self.mean_3HW)
        return (logit_NK / self.temperature).softmax(dim=1)


class PlainAlexNet(AlexNet):
    """AlexNet of operators that every runtime knows: `LocalResponseNorm` adds in place and brings a
    gradient, which a graph pays for with scatters and has no use for."""

    def __init__(self, config: AlexNetConfig) -> None:
        with torch.device("meta"):
            super().__init__(config)

    def _norm(self, x_NCHW: Tensor) -> Tensor:
        config, norm = self.config, LocalResponseNorm
        if not config.local_response_norm:
            return x_NCHW
        towers = x_NCHW.chunk(1 if config.norm_across_towers else config.towers, dim=1)
        return torch.cat(
            [F.local_response_norm(t, 5, 5 * norm.ALPHA, norm.BETA, config.norm_k) for t in towers],
            dim=1,
        )


@contextmanager
def _without_asides() -> Iterator[None]:
    """Silences two remarks of torch's exporter that no user can act upon: that torchvision's
    operators are absent (none is used), and that torch copies a type which it deprecates itself."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")

    def matters(record: logging.LogRecord) -> bool:
        return "torchvision is not installed" not in record.getMessage()

    registration.addFilter(matters)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)
            yield
    finally:
        registration.removeFilter(matters)
