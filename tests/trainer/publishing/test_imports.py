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
from tests.trainer.publishing.caffe_files import blob, caffemodel
from trainer.arguments import Family
from trainer.publishing.imports import (
    CAFFE,
    FOLDED,
    LAYERS,
    TORCHVISION,
    publish_import,
    read_classes,
    read_mean,
)
from trainer.publishing.imports import from_torchvision as from_state

CAFFE_MEAN = (104.00699, 116.66877, 122.67891)
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
    """models/bvlc_alexnet/deploy.prototxt, layer for layer, on blobs of pycaffe; or
    models/bvlc_reference_caffenet/deploy.prototxt, which pools before it normalises."""

    SHAPES = {
        "conv1": (96, 3, 11, 11), "conv2": (256, 48, 5, 5), "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3), "conv5": (256, 192, 3, 3),
        "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096),
    }  # fmt: skip

    def __init__(self, family: Family = "caffe") -> None:
        self.family = family
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

        def both(x: Tensor) -> Tensor:
            return norm(pool(x)) if self.family == "caffenet" else pool(norm(x))

        x = both(conv(image_N3HW, "conv1", stride=4))
        x = both(conv(x, "conv2", padding=2, groups=2))
        x = conv(conv(x, "conv3", padding=1), "conv4", padding=1, groups=2)
        x = pool(conv(x, "conv5", padding=1, groups=2))
        return full(F.relu(full(F.relu(full(x.flatten(1), "fc6")), "fc7")), "fc8")

    @staticmethod
    def oversample(image: Image.Image, mean_3SS: Tensor) -> Tensor:
        """Squashed, BGR, minus the mean, five crops and their mirrors -> (10, 3, 227, 227).

        The mean is subtracted pixel by pixel at the place of the crop, before the mirror, as
        DataTransformer::Transform of src/caffe/data_transformer.cpp does.
        """
        squashed = image.resize((256, 256), Image.Resampling.BILINEAR)
        bgr_3SS = torch.tensor(np.asarray(squashed)[:, :, ::-1].copy()).permute(2, 0, 1).float()
        crops = []
        for h_off, w_off in ((0, 0), (0, 29), (14, 14), (29, 0), (29, 29)):
            crop_3HW = torch.empty(3, 227, 227)
            for h in range(227):
                row = (slice(None), h_off + h, slice(w_off, w_off + 227))
                crop_3HW[:, h] = bgr_3SS[row] - mean_3SS[row]
            crops.append(crop_3HW)
        return torch.stack([*crops, *(crop.flip(2) for crop in crops)])


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


def test_what_is_folded_into_the_weights_is_what_a_run_is_told() -> None:
    """Of weights that are all one, each a few bytes."""
    with torch.device("meta"):
        state = Torchvision().state_dict()
    ones = {name: torch.ones(1).expand(tensor.shape) for name, tensor in state.items()}
    for name, tensor in from_state(ones, Path("ones")).tensors.items():
        layer, _, part = name.partition(".")
        expected = torch.ones(1)
        if part == "weight" and layer in ("fc8", *FOLDED["torchvision"]):
            factors = FOLDED["torchvision"]["fc7" if layer == "fc8" else layer]
            expected = torch.tensor(factors)
        found = tensor[0, :, 0, 0] if tensor.ndim == 4 else tensor.flatten()[:9]
        torch.testing.assert_close(found, expected.expand(len(found)), rtol=1e-6, atol=0, msg=name)


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
    model, mean_3HW, about, _ = from_torchvision
    expected_1K = torchvision(torchvision.prepare(Image.open(io.BytesIO(jpeg))))
    image_1K3SS = torch.tensor(whole_image(jpeg, rule=about.rule)).permute(2, 0, 1)[None]
    with torch.no_grad():
        found_1K = model(one_view(image_1K3SS, 224)[:, 0] - mean_3HW)
        probability_1K = probabilities(model, image_1K3SS, mean_3HW, views=1)
    scale = expected_1K.std().item()
    torch.testing.assert_close(found_1K, expected_1K, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(probability_1K, expected_1K.softmax(1), rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "mean"), [("caffe", None), ("caffe", "mean.npy"), ("caffenet", "mean.binaryproto")]
)
def test_caffes_answers_served(
    family: Family, mean: str | None, jpeg: bytes, tmp_path: Path
) -> None:
    """Ten views, through HTTP; and one."""
    caffe = Caffe(family)
    np.savez(tmp_path / "alexnet.npz", **caffe.blobs)  # type: ignore[arg-type]
    mean_3SS = np.random.default_rng(1).uniform(50, 170, (3, 256, 256)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean_3SS)
    (tmp_path / "mean.binaryproto").write_bytes(blob(mean_3SS[None], "four"))
    if mean is None:
        mean_3SS = np.broadcast_to(np.float32(CAFFE_MEAN)[:, None, None], (3, 256, 256)).copy()
    mean_file = mean and tmp_path / mean
    publish_import(tmp_path / "alexnet.npz", family, "c", None, mean_file, tmp_path / "models")
    imported = load(tmp_path / "models" / "c")
    assert (imported.whole_mean_3SS is None) == (mean is None)
    view_V3HW = caffe.oversample(Image.open(io.BytesIO(jpeg)), torch.from_numpy(mean_3SS))
    probability_VK = caffe(view_V3HW).softmax(1)
    models = Models((), Served(Predictor([imported])))
    with TestClient(create_app(Settings(model=("unused",)), models)) as client:
        for views, expected_K in ((10, probability_VK.mean(0)), (1, probability_VK[2])):
            answer = client.post(f"/classify?views={views}", files={"file": jpeg})
            best = expected_K.topk(5)
            (result,) = answer.raise_for_status().json()["results"]
            assert [guess["id"] for guess in result["guesses"]] == [
                f"class {label:04d}" for label in best.indices.tolist()
            ]
            for guess, probability in zip(result["guesses"], best.values.tolist(), strict=True):
                assert guess["probability"] == pytest.approx(probability, rel=1e-4)
            assert answer.json()["views"] == views


def test_the_mean_of_a_caffe_model_in_each_kind_of_file(tmp_path: Path) -> None:
    mean_3SS = np.random.default_rng(1).uniform(90, 130, (3, 256, 256)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean_3SS)
    np.savez(tmp_path / "mean.npz", mean=mean_3SS)
    (tmp_path / "mean.binaryproto").write_bytes(blob(mean_3SS[None], "four"))
    for file in ("mean.npy", "mean.npz", "mean.binaryproto"):
        assert np.array_equal(read_mean(tmp_path / file), mean_3SS[::-1].transpose(1, 2, 0))
    (tmp_path / "mean.npy").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"mean.npy: this is a Git LFS pointer"):
        read_mean(tmp_path / "mean.npy")


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
            r"the layer conv2.weight should have the shape \(192, 64, 5, 5\), but has \(256, 6",
        ),
        (
            {"classifier.6.bias": (10,)},
            r"the layer fc8.weight should have the shape \(10, 4096\), but has \(1000, 4096\)",
        ),
        ({"classifier.6.bias": (1,)}, "the last layer should have 2 classes or more, but has 1"),
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


def test_numbers_that_are_no_weights() -> None:
    with torch.device("meta"):
        shapes = Torchvision().state_dict()
    for number, text in (
        (
            torch.tensor(1, dtype=torch.int8),
            "should hold floating-point numbers, but holds torch",
        ),
        (torch.tensor(float("nan")), "holds infinite numbers, or NaN: its training diverged"),
        (torch.tensor(float("inf"), dtype=torch.half), "holds infinite numbers, or NaN"),
    ):
        tensors = {name: number.expand(t.shape) for name, t in shapes.items()}
        with pytest.raises(UserError, match=f"a.pth: the layer conv1.weight {text}"):
            from_state(tensors, Path("a.pth"))


SMALL_CAFFE = {name: np.zeros(3, np.float32) for name in CAFFE.values()}
SMALL_TORCHVISION = {name: torch.zeros(3) for name in TORCHVISION.values()}
ORDERS = {"caffe": ("norm1", "pool1"), "caffenet": ("pool1", "norm1")}


def refusal(file: Path, family: str, mean: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        publish_import(file, family, "x", None, mean, file.parent / "models")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{file.parent}/")


def test_other_files_are_refused(tmp_path: Path, run: Callable) -> None:
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "run.pth")
    assert "run.pth: there is no tensor features.0.weight (found: nothing, …)" in refusal(
        tmp_path / "run.pth", "torchvision"
    )
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "no tensor features.0.weight (found: weight, …)" in refusal(
        tmp_path / "other.safetensors", "torchvision"
    )
    np.savez(tmp_path / "other.npz", conv1=np.zeros(3))
    assert "other.npz: there is no tensor conv1.0 (found: conv1, …)" in refusal(
        tmp_path / "other.npz", "caffe"
    )
    assert "other.npz: there is no array `mean` (found: conv1)" in refusal(
        tmp_path / "other.npz", "caffe", tmp_path / "other.npz"
    )
    np.save(tmp_path / "small.npy", np.zeros((3, 227, 227)))
    assert "small.npy: the shape should be (3,) or (3, 256, 256), but is (3, 227, 227)" in refusal(
        tmp_path / "other.npz", "caffe", tmp_path / "small.npy"
    )
    assert "small.npy: this is a single array, such as a mean image" in refusal(
        tmp_path / "small.npy", "caffe"
    )
    assert "torchvision's mean is known" in refusal(
        tmp_path / "run.pth", "torchvision", tmp_path / "small.npy"
    )
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "current.json").touch()
    assert "models/x: this model exists already; choose another --name" in refusal(
        tmp_path / "run.pth", "torchvision"
    )

    done = run("trainer", "import", "none.npz", "--from", "caffe", "--name", "y")
    assert done.returncode == 2
    assert "none.npz: No such file or directory" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "family", "text"),
    [
        (SMALL_TORCHVISION, "caffe", "these are the tensors of another AlexNet"),
        ({"model": SMALL_TORCHVISION}, "caffenet", "these are the tensors of another"),
        (SMALL_CAFFE, "torchvision", "these are the tensors of another AlexNet; give --from caffe"),
        ({"layer1.0.conv1.weight": 3}, "torchvision", "this looks like a ResNet; expected"),
        ({**SMALL_TORCHVISION, "features.1.running_mean": 3}, "torchvision",
         "this looks like a network with batch normalisation; expected is"),
        ({"features.11.weight": 3, **SMALL_TORCHVISION}, "torchvision", "this looks like a VGG"),
        ({**SMALL_TORCHVISION, "features.1.weight": 3}, "torchvision",
         "the tensor features.1.weight belongs to no layer of this network"),
        ({"stand": {}, "weights": {"conv1.weight": 3}, "velocity": {}, "rates": 1}, "caffe",
         "this is a checkpoint of a run of this program; publish it with `alexnet publish NAME`"),
        (dict.fromkeys((*CAFFE, "mean_3HW"), 3), "caffe",
         "this is a file of a model that is published already; give its folder to `alexnet serve`"),
    ],
)  # fmt: skip
def test_other_networks_are_called_by_their_name(
    tmp_path: Path, content: dict, family: str, text: str
) -> None:
    torch.save(_tensors(content), tmp_path / "a.pth")
    assert f"a.pth: {text}" in refusal(tmp_path / "a.pth", family)


def _tensors(content: dict) -> dict:
    """With a tensor for each number and each array."""
    return {
        name: _tensors(value) if isinstance(value, dict) else torch.as_tensor(value)
        for name, value in content.items()
    }


@pytest.mark.parametrize("family", ORDERS)
@pytest.mark.parametrize("generation", ["v0", "v1", "v2"])
def test_a_caffemodel_says_which_of_the_two_it_is(
    tmp_path: Path, family: str, generation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = {layer: [SMALL_CAFFE[f"{layer}.0"]] * 2 for layer in LAYERS}
    layers = ("conv1", *ORDERS[family], *list(LAYERS)[1:])
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(layers, blobs, generation))
    other = next(name for name in ORDERS if name != family)
    does = {"caffe": "normalises before it pools", "caffenet": "pools before it normalises"}
    assert refusal(tmp_path / "a.caffemodel", other) == (
        f"a.caffemodel: this network {does[family]}; give --from {family}"
    )
    assert "the layer conv1.weight should have the shape" in refusal(
        tmp_path / "a.caffemodel", family
    )


@pytest.mark.slow
def test_a_caffemodel_is_imported_as_its_arrays_are(
    from_caffe: Checkpoint, caffe: Caffe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a classifier of another name, as models/finetune_flickr_style has it."""
    blobs = {n: [caffe.blobs[f"{n}.0"], caffe.blobs[f"{n}.1"]] for n in LAYERS}
    blobs["fc8_flickr"] = blobs.pop("fc8")
    layers = ("conv1", "norm1", "pool1", *list(LAYERS)[1:-1], "fc8_flickr")
    (tmp_path / "a.caffemodel").write_bytes(caffemodel(layers, blobs))
    publish_import(tmp_path / "a.caffemodel", "caffe", "x", None, None, tmp_path)
    assert capsys.readouterr().err == (
        f"{tmp_path}/a.caffemodel: its classifier is called fc8_flickr\n"
    )
    state = load(tmp_path / "x").model.state_dict()
    for name, tensor in from_caffe.model.state_dict().items():
        assert torch.equal(state[name], tensor)


@pytest.mark.slow
def test_where_it_cannot_be_told_which_of_the_two_it_is(
    caffe: Caffe, from_caffe: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state dict that was converted from Caffe, named as Caffe names layers."""
    parts = ("weight", "bias")
    blob_of = {
        f"{n}.{part}": caffe.blobs[f"{n}.{i}"] for n in LAYERS for i, part in enumerate(parts)
    }
    torch.save({k: torch.from_numpy(v) for k, v in blob_of.items()}, tmp_path / "a.pth")
    publish_import(tmp_path / "a.pth", "caffe", "x", None, None, tmp_path)
    assert capsys.readouterr().err == (
        f"{tmp_path}/a.pth: warning: taken for AlexNet, since CaffeNet's tensors have the same "
        "names and shapes; if it is CaffeNet, import it with --from caffenet\n"
    )
    assert torch.equal(load(tmp_path / "x").model.conv1.weight, from_caffe.model.conv1.weight)
    publish_import(tmp_path / "a.pth", "caffenet", "y", None, None, tmp_path)
    assert capsys.readouterr().err == ""
    assert load(tmp_path / "y").about.network.norm_after_pool


@pytest.mark.slow
def test_a_training_run_of_other_people(
    torchvision: Torchvision, from_torchvision: Checkpoint, tmp_path: Path, run: Callable
) -> None:
    """PyTorch's ImageNet example saves so: parallel features, in half precision here."""
    state = {
        name.replace("features.", "features.module."): nn.Parameter(tensor.half())
        for name, tensor in torchvision.state_dict().items()
    }
    best = torch.tensor(56.5)
    content = {"epoch": 90, "arch": "alexnet", "state_dict": state, "best_acc1": best}
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    done = run(
        "trainer", "import", tmp_path / "checkpoint.pth.tar", "--from", "torchvision",
        "--name", "tv", "--models", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == (
        f"{tmp_path}/checkpoint.pth.tar: taken: 'state_dict'; without the wrapper module; "
        "left out: epoch, arch, best_acc1\n"
    )
    halved = torchvision.state_dict()["classifier.6.weight"].half().float() * 2
    assert torch.equal(load(tmp_path / "tv").model.fc8.weight, halved)


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


def test_tensors_that_are_not_dense_are_refused() -> None:
    with torch.device("meta"):
        tensors = Torchvision().state_dict()
    with pytest.raises(UserError, match=r"conv1\.weight is without its numbers; save it as"):
        from_state(tensors, Path("alexnet.pth"))
    tensors["features.0.weight"] = torch.sparse_coo_tensor(
        size=(64, 3, 11, 11), check_invariants=True
    )
    with pytest.raises(UserError, match=r"conv1\.weight is a sparse tensor; save it as"):
        from_state(tensors, Path("alexnet.pth"))
