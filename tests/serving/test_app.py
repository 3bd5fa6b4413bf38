"""The service in-process: each answer and each refusal."""

import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from alexnet.checkpoint import Checkpoint
from alexnet.pixels import whole_picture
from alexnet.views import ten_views
from serving.app import create_app
from serving.models import Models, Served
from serving.predictor import Predictor
from serving.settings import Settings


@pytest.fixture(scope="module")
def client(checkpoint: Checkpoint) -> Iterator[TestClient]:
    settings = Settings(model=("unused",), max_upload_bytes=300_000)
    models = Models((), Served(Predictor([checkpoint])))
    with TestClient(create_app(settings, models)) as client:
        yield client


def post(client: TestClient, data: bytes, field: str = "file"):  # type: ignore[no-untyped-def]
    return client.post("/classify", files={field: ("photo.jpg", data)})


def png(size: tuple[int, int] = (80, 60)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "PNG")
    return file.getvalue()


def test_the_answer_is_the_mean_of_ten_softmaxes(
    client: TestClient, checkpoint: Checkpoint, jpeg: bytes
) -> None:
    answer = post(client, jpeg).raise_for_status().json()
    (result,) = answer["results"]
    picture = torch.from_numpy(np.array(whole_picture(jpeg, 72))).permute(2, 0, 1)[None]
    with torch.no_grad():
        each = [
            checkpoint.model((view - checkpoint.mean_3HW)[None]).softmax(1)[0]
            for view in ten_views(picture, 64)[0]
        ]
    expected = torch.stack(each).mean(0)
    assert [guess["id"] for guess in result["guesses"]] == [
        f"n{label}" for label in expected.argsort(descending=True)[:5].tolist()
    ]
    for guess in result["guesses"]:
        label = int(guess["id"][1:])
        assert guess["label"] == f"class {label}"
        assert guess["probability"] == pytest.approx(expected[label].item(), abs=1e-5)
    assert answer["views"] == 10
    sha256 = checkpoint.about.weights_sha256
    assert answer["model"] == {"name": "tiny", "step": 12, "sha256": sha256}


def test_health(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["model"]["step"] == 12


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"", 400, "the file is empty (0 bytes)"),
        (b"GIF89a no more", 415, "not a picture in one of JPEG, PNG, WEBP"),
        (b"<svg/>", 415, "not a picture in one of JPEG, PNG, WEBP"),
        (png()[:-40], 400, "damaged or cut short"),
        (png((9000, 9000)), 413, "81000000 pixels, the limit is 50000000"),
        (b"\0" * 300_000, 413, "the limit is 300000"),
    ],
    ids=["empty", "format", "text", "truncated", "bomb", "large"],
)
def test_bad_input_is_a_clear_4xx(client: TestClient, data: bytes, status: int, text: str) -> None:
    response = post(client, data)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert text in problem["detail"]


def test_requests_that_are_no_upload(client: TestClient, jpeg: bytes) -> None:
    for response, status in (
        (post(client, jpeg, field="image"), 422),
        (client.post("/classify"), 415),
        (client.post("/classify", data={"file": "text"}), 415),
        (
            client.post("/classify", content=b"x", headers={"content-type": "multipart/form-data"}),
            400,
        ),
        (client.get("/classify"), 405),
        (client.get("/nowhere"), 404),
    ):
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["detail"]


def test_a_streamed_body_without_a_length_is_bounded_too(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(40):
            yield b"\0" * 10_000
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/classify", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert "300000" in response.json()["detail"]


def test_openapi_shows_an_answer_and_every_refusal(client: TestClient) -> None:
    spec = client.get("/openapi.json").json()
    responses = spec["paths"]["/classify"]["post"]["responses"]
    assert {"200", "400", "413", "415", "422"} <= responses.keys()
    (example,) = spec["components"]["schemas"]["Classification"]["examples"]
    assert example["results"][0]["guesses"]
    assert "HTTPValidationError" not in json.dumps(spec)
