"""torchvision's and Caffe's networks, written out as theirs, against the imported ones."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from alexnet.checkpoint import Checkpoint, load
from alexnet.command import UserError
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from alexnet.views import one_view, probabilities
from serving.app import create_app
from serving.models import Models, Served
from serving.settings import Settings
from trainer.publishing.imports import from_torchvision as from_state
from trainer.publishing.imports import publish_import, read_classes, read_mean

SYNSETS = "\n".join(f"n{label:08d} thing {label}, object" for label in range(1000))


class Torchvision(nn.Module):
    """torchvision.models.alexnet, layer for layer, with its own initial weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, image_N3HW: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(image_N3HW)).flatten(1))

    @staticmethod
    def prepare(image: Image.Image) -> Tensor:
        """Resize(256), CenterCrop(224), ToTensor, Normalize -> (1, 3, 224, 224)."""
        short = min(image.size)
        width, height = (256 * side // short for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        crop_HW3 = np.asarray(image.crop((left, top, left + 224, top + 224)))
        crop_3HW = torch.tensor(crop_HW3).permute(2, 0, 1) / 255
        mean_3, deviation_3 = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        return ((crop_3HW - mean_3[:, None, None]) / deviation_3[:, None, None])[None]


class Caffe:
    """models/bvlc_alexnet/deploy.prototxt, layer for layer, on blobs of pycaffe."""

    SHAPES = {
        "conv1": (96, 3, 11, 11), "conv2": (256, 48, 5, 5), "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3), "conv5": (256, 192, 3, 3),
        "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096),
    }  # fmt: skip

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.blobs: dict[str, np.ndarray] = {}
        for name, shape in self.SHAPES.items():
            deviation = 0.01 if name == "conv1" else (2 / np.prod(shape[1:])) ** 0.5
            weights = random.standard_normal(shape, np.float32) * np.float32(deviation)
            self.blobs[f"{name}.0"] = weights
            self.blobs[f"{name}.1"] = random.normal(0, 0.1, shape[0]).astype(np.float32)

    def __call__(self, image_N3HW: Tensor) -> Tensor:
        """BGR minus the mean, (N, 3, 227, 227) -> logits."""
        blob = {name: torch.from_numpy(array) for name, array in self.blobs.items()}

        def conv(x: Tensor, name: str, **options: int) -> Tensor:
            return F.relu(F.conv2d(x, blob[f"{name}.0"], blob[f"{name}.1"], **options))

        def full(x: Tensor, name: str) -> Tensor:
            return F.linear(x, blob[f"{name}.0"], blob[f"{name}.1"])

        def pool(x: Tensor) -> Tensor:
            return F.max_pool2d(x, 3, 2, ceil_mode=True)

        def norm(x: Tensor) -> Tensor:
            return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)

        x = pool(norm(conv(image_N3HW, "conv1", stride=4)))
        x = pool(norm(conv(x, "conv2", padding=2, groups=2)))
        x = conv(conv(x, "conv3", padding=1), "conv4", padding=1, groups=2)
        x = pool(conv(x, "conv5", padding=1, groups=2))
        return full(F.relu(full(F.relu(full(x.flatten(1), "fc6")), "fc7")), "fc8")

    @staticmethod
    def oversample(image: Image.Image, mean_3HW: Tensor) -> Tensor:
        """Squashed, BGR, minus the mean, five crops and their mirrors -> (10, 3, 227, 227)."""
        squashed = image.resize((256, 256), Image.Resampling.BILINEAR)
        bgr_3HW = torch.tensor(np.asarray(squashed)[:, :, ::-1].copy()).permute(2, 0, 1).float()
        corners = ((0, 0), (0, 29), (14, 14), (29, 0), (29, 29))
        crops = [bgr_3HW[:, y : y + 227, x : x + 227] for y, x in corners]
        return torch.stack([*crops, *(crop.flip(2) for crop in crops)]) - mean_3HW


@pytest.fixture(scope="module")
def torchvision() -> Torchvision:
    torch.manual_seed(0)
    return Torchvision().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def from_torchvision(
    torchvision: Torchvision, tmp_path_factory: pytest.TempPathFactory, run: Callable
) -> Checkpoint:
    folder = tmp_path_factory.mktemp("torchvision")
    torch.save(torchvision.state_dict(), folder / "alexnet.pth")
    (folder / "synset_words.txt").write_text(SYNSETS)
    done = run(
        "trainer", "import", folder / "alexnet.pth", "--from", "torchvision", "--name", "tv",
        "--classes", folder / "synset_words.txt", "--models", folder / "models",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (folder / "alexnet.pth").unlink()
    return load(folder / "models" / "tv")


@pytest.fixture(scope="module")
def caffe() -> Caffe:
    return Caffe()


@pytest.fixture(scope="module")
def from_caffe(caffe: Caffe, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("caffe")
    np.savez(folder / "alexnet.npz", **caffe.blobs)  # type: ignore[arg-type]
    publish_import(folder / "alexnet.npz", "caffe", "caffe", None, None, folder / "models")
    (folder / "alexnet.npz").unlink()
    return load(folder / "models" / "caffe")


def parameters(checkpoint: Checkpoint) -> int:
    return sum(tensor.numel() for tensor in checkpoint.model.parameters())


@pytest.mark.slow
def test_parameters_of_both(from_torchvision: Checkpoint, from_caffe: Checkpoint) -> None:
    assert parameters(from_torchvision) == 61_100_840
    assert parameters(from_caffe) == 60_965_224


@pytest.mark.slow
def test_torchvisions_answers(
    torchvision: Torchvision, from_torchvision: Checkpoint, jpeg: bytes
) -> None:
    model, mean_3HW, about = from_torchvision
    expected_1K = torchvision(torchvision.prepare(Image.open(io.BytesIO(jpeg))))
    image_1K3SS = torch.tensor(whole_image(jpeg, rule=about.rule)).permute(2, 0, 1)[None]
    with torch.no_grad():
        found_1K = model(one_view(image_1K3SS, 224)[:, 0] - mean_3HW)
        probability_1K = probabilities(model, image_1K3SS, mean_3HW, views=1)
    scale = expected_1K.std().item()
    torch.testing.assert_close(found_1K, expected_1K, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(probability_1K, expected_1K.softmax(1), rtol=1e-5, atol=0)


@pytest.mark.slow
def test_caffes_answers_served(caffe: Caffe, from_caffe: Checkpoint, jpeg: bytes) -> None:
    """Ten views, through HTTP."""
    mean_311 = torch.tensor([104.00699, 116.66877, 122.67891])[:, None, None]
    logit_VK = caffe(caffe.oversample(Image.open(io.BytesIO(jpeg)), mean_311))
    expected_K = logit_VK.softmax(1).mean(0)
    models = Models((), Served(Predictor([from_caffe])))
    with TestClient(create_app(Settings(model=("unused",)), models)) as client:
        answer = client.post("/classify", files={"file": jpeg}).raise_for_status().json()
    best = expected_K.topk(5)
    (result,) = answer["results"]
    assert [guess["id"] for guess in result["guesses"]] == [
        f"class {label:04d}" for label in best.indices.tolist()
    ]
    for guess, probability in zip(result["guesses"], best.values.tolist(), strict=True):
        assert guess["probability"] == pytest.approx(probability, rel=1e-4)
    assert answer["views"] == 10


@pytest.mark.slow
def test_caffes_logits_with_its_mean_image(
    caffe: Caffe, from_caffe: Checkpoint, jpeg: bytes, tmp_path: Path
) -> None:
    mean_3SS = np.random.default_rng(1).uniform(90, 130, (3, 256, 256)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean_3SS)
    np.savez(tmp_path / "mean.npz", mean=mean_3SS)
    bgr_3HW = torch.from_numpy(mean_3SS[:, 14:241, 14:241])
    views_V3HW = caffe.oversample(Image.open(io.BytesIO(jpeg)), bgr_3HW)
    mean_SS3 = read_mean(tmp_path / "mean.npz")
    assert np.array_equal(mean_SS3, read_mean(tmp_path / "mean.npy"))
    rgb_3HW = torch.from_numpy(mean_SS3)[14:241, 14:241].permute(2, 0, 1)
    assert torch.equal(rgb_3HW, bgr_3HW.flip(0))
    expected_VK = caffe(views_V3HW)
    with torch.no_grad():
        found_VK = from_caffe.model(views_V3HW.flip(1))
    scale = expected_VK.std().item()
    torch.testing.assert_close(found_VK, expected_VK, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
def test_what_about_says_of_them(from_torchvision: Checkpoint, from_caffe: Checkpoint) -> None:
    about = from_torchvision.about
    assert (about.rule.framing, about.rule.filter, about.size) == ("pixel-crop", "bilinear", 256)
    assert about.classes[17].id == "n00000017"
    assert about.classes[17].name == "thing 17, object"
    assert about.recipe.items() >= {"imported": "torchvision", "file": "alexnet.pth"}.items()
    assert about.dataset is about.trained_at is None
    about = from_caffe.about
    assert (about.rule.framing, about.rule.filter, about.size) == ("squash", "bilinear", 256)
    assert about.network.crop == from_caffe.mean_3HW.shape[-1] == 227
    assert json.loads(about.model_dump_json())["rule"] == about.rule.model_dump()


@pytest.mark.slow
def test_further_training_masks_as_theirs_did(from_caffe: Checkpoint, caffe: Caffe) -> None:
    """Twice the weights on masked outputs are the weights on doubled ones."""
    kept_NH = torch.relu(torch.randn(4, 4096)) * (torch.rand(4, 4096) < 0.5)
    blob = {name: torch.from_numpy(caffe.blobs[name]) for name in ("fc7.0", "fc7.1")}
    expected = F.linear(2 * kept_NH, blob["fc7.0"], blob["fc7.1"])
    torch.testing.assert_close(from_caffe.model.fc7(kept_NH), expected, rtol=0, atol=1e-5)


def test_class_names_are_synsets_or_lines(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("crane\ntench, Tinca tinca\n\ncrane\n")
    classes = read_classes(path, 3)
    assert [c.id for c in classes] == ["class 0000", "class 0001", "class 0002"]
    assert [c.name for c in classes] == ["crane", "tench, Tinca tinca", "crane"]
    path.write_text(SYNSETS)
    assert read_classes(path, 1000)[3].id == "n00000003"
    with pytest.raises(UserError, match=r"names.txt: 1000 names for 3 classes"):
        read_classes(path, 3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"features.3.bias": None},
            r"there is no tensor features.3.bias \(found: features.0.weight, ",
        ),
        ({"features.1.weight": (64,)}, "the tensor features.1.weight belongs to no layer"),
        (
            {"features.3.weight": (256, 64, 5, 5)},
            r"features.3.weight should have the shape \(192, 64, 5, 5\), but has \(256, 64, 5, 5\)",
        ),
        (
            {"classifier.6.bias": (10,)},
            r"classifier.6.weight should have the shape \(10, 4096\), but has \(1000, 4096\)",
        ),
        ({"classifier.6.bias": (1,)}, "classifier.6.bias should have 2 classes or more"),
    ],
)
def test_other_tensors_are_refused(changes: dict[str, tuple | None], text: str) -> None:
    with torch.device("meta"):
        tensors = Torchvision().state_dict()
        for name, shape in changes.items():
            tensors.pop(name, None)
            if shape is not None:
                tensors[name] = torch.empty(shape)
    with pytest.raises(UserError, match=f"alexnet.pth: {text}"):
        from_state(tensors, Path("alexnet.pth"))


def test_other_files_are_refused(tmp_path: Path, run: Callable) -> None:
    def refusal(file: str, family: str, mean: Path | None = None) -> str:
        with pytest.raises(UserError) as caught:
            publish_import(tmp_path / file, family, "x", None, mean, tmp_path / "models")  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{tmp_path}/")

    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "run.pth")
    assert "run.pth: expected a dictionary of tensors, found epoch, state_dict; save it" in refusal(
        "run.pth", "torchvision"
    )
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    assert "module.pth: cannot be read as a state dict" in refusal("module.pth", "torchvision")
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 20)
    assert "cut.safetensors: this is not a safetensors file" in refusal(
        "cut.safetensors", "torchvision"
    )
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "no tensor features.0.weight (found: weight, …)" in refusal(
        "other.safetensors", "torchvision"
    )
    np.savez(tmp_path / "text.npz", **{"conv1.0": np.array(["a"])})  # type: ignore[arg-type]
    assert "text.npz: conv1.0 should hold numbers, but holds <U1" in refusal("text.npz", "caffe")
    np.savez(tmp_path / "other.npz", conv1=np.zeros(3))
    assert "other.npz: there is no tensor conv1.0 (found: conv1, …)" in refusal(
        "other.npz", "caffe"
    )
    assert "other.npz: there is no array `mean` (found: conv1)" in refusal(
        "other.npz", "caffe", tmp_path / "other.npz"
    )
    np.save(tmp_path / "small.npy", np.zeros((3, 227, 227)))
    assert "small.npy: the shape should be (3,) or (3, 256, 256), but is (3, 227, 227)" in refusal(
        "other.npz", "caffe", tmp_path / "small.npy"
    )
    assert "torchvision's mean is known" in refusal(
        "run.pth", "torchvision", tmp_path / "small.npy"
    )
    (tmp_path / "models" / "x").mkdir(parents=True)
    assert "models/x: this model exists already; choose another --name" in refusal(
        "run.pth", "torchvision"
    )

    done = run("trainer", "import", "none.npz", "--from", "caffe", "--name", "y")
    assert done.returncode == 2
    assert "none.npz: No such file or directory" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_classes_in_a_file_of_another_editor(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(SYNSETS.replace("\n", "\r\n").encode(encoding))
    classes = read_classes(path, 1000)
    assert (classes[0].id, classes[0].name) == ("n00000000", "thing 0, object")


@pytest.mark.parametrize("listed", [dict, list])
def test_a_printed_dictionary_is_never_published_as_names(tmp_path: Path, listed: type) -> None:
    path = tmp_path / "names.txt"
    path.write_text(
        str(listed(enumerate(["tench, Tinca tinca", "goldfish"]))).replace(", 1", ",\n1")
    )
    with pytest.raises(UserError, match=r"names.txt, line 1: .* begins a dictionary, a list or"):
        read_classes(path, 2)
