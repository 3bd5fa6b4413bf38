"""The service in-process: each answer and each refusal."""

import base64
import gzip
import io
import json
import re
import struct
import tarfile
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from alexnet.checkpoint import Checkpoint
from alexnet.formats import readable
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from alexnet.views import ten_views
from serving.app import create_app
from serving.models import Models, Served
from serving.settings import Settings
from tests.alexnet.test_predictor import calibrated


@pytest.fixture(scope="module")
def client(checkpoint: Checkpoint) -> Iterator[TestClient]:
    settings = Settings(model=("unused",), max_upload_bytes=300_000)
    models = Models((), Served(Predictor([checkpoint])))
    with TestClient(create_app(settings, models)) as client:
        yield client


@pytest.fixture(scope="module")
def indexed_client(indexed: Path) -> Iterator[TestClient]:
    served = Served.load((indexed,))
    with TestClient(create_app(Settings(model=("unused",)), Models((), served))) as client:
        yield client


def post(client: TestClient, data: bytes, field: str = "file", path: str = "/classify"):  # type: ignore[no-untyped-def]
    return client.post(path, files={field: ("photo.jpg", data)})


def png(size: tuple[int, int] = (80, 60), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, "teal").save(file, "PNG")
    return file.getvalue()


def test_the_answer_is_the_mean_of_ten_softmaxes(
    client: TestClient, checkpoint: Checkpoint, jpeg: bytes
) -> None:
    answer = post(client, jpeg).raise_for_status().json()
    (result,) = answer["results"]
    image = torch.from_numpy(np.array(whole_image(jpeg, 72))).permute(2, 0, 1)[None]
    with torch.no_grad():
        each = [
            checkpoint.model((view - checkpoint.mean_3HW)[None]).softmax(1)[0]
            for view in ten_views(image, 64)[0]
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
        (b"GIF89a no more", 415, "not an image of a supported format (JPEG, PNG, WEBP)"),
        (b"<svg/>", 415, "not an image of a supported format (JPEG, PNG, WEBP)"),
        (png()[:-40], 400, "damaged or cut short"),
        (png((9000, 9000), "1"), 413, "81,000,000 pixels; the limit for PNG is 33,554,432"),
        (b"\0" * 300_000, 413, "the limit is 300,000"),
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


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (80, 60), "teal").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM", "JPEG2000", "AVIF"])
def test_an_image_of_another_format_is_told_its_format_and_the_setting(
    client: TestClient, checkpoint: Checkpoint, kind: str
) -> None:
    refused = post(client, encoded(kind))
    assert (refused.status_code, refused.json()["code"]) == (415, "not-an-image")
    assert refused.json()["setting"] == "SERVING_FORMATS"
    assert refused.json()["detail"] == (
        f"the file is not an image of a supported format (JPEG, PNG, WEBP): it is {kind}; "
        f"convert it, or start the server with SERVING_FORMATS=JPEG,PNG,WEBP,{kind}"
    )
    settings = Settings(model=("unused",), formats=("JPEG", "PNG", "WEBP", kind))
    models = Models((), Served(Predictor([checkpoint])))
    with TestClient(create_app(settings, models)) as told:
        assert post(told, encoded(kind)).is_success


def test_the_pixels_of_a_request_are_counted_before_any_is_decoded(client: TestClient) -> None:
    declares = png()[:16] + struct.pack(">II", 5000, 5000) + png()[24:]
    response = client.post("/classify", files=[("file", ("photo", declares))] * 11)
    assert response.status_code == 413
    problem = response.json()
    assert (problem["code"], problem["setting"]) == (
        "too-many-pixels", "SERVING_MAX_REQUEST_PIXELS",
    )  # fmt: skip
    assert (problem["limit"], problem["seen"]) == (2**28, 11 * 5000**2)
    assert "275,000,000 pixels together; the limit is 268,435,456" in problem["detail"]
    one_by_one = client.post("/classify", files=[("file", ("photo", declares))] * 2).json()
    assert {result["problem"]["code"] for result in one_by_one["results"]} == {"unsupported"}


@pytest.mark.parametrize("data", [b"", b"text", b"GIF89a", b"BM" + bytes(99)])
def test_what_is_no_image_has_no_pixels(client: TestClient, jpeg: bytes, data: bytes) -> None:
    files = [("file", ("photo", file)) for file in (*[data] * 31, jpeg)]
    *refused, taken = client.post("/classify", files=files).raise_for_status().json()["results"]
    assert {result["problem"]["status"] for result in refused} <= {400, 415}
    assert taken["guesses"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\x0a\0\0", "JPEG XL"),
        (
            b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='http://www.w3.org/2000/svg'/>",
            "SVG",
        ),
        (b"%PDF-1.7\n", "PDF"),
    ],
)
def test_a_format_that_no_setting_allows_is_named_too(
    client: TestClient, data: bytes, kind: str
) -> None:
    problem = post(client, data).json()
    assert problem["detail"].endswith(f"(JPEG, PNG, WEBP): it is {kind}; convert it")
    assert "setting" not in problem


def test_heic_is_told_what_lets_it_be_read(client: TestClient) -> None:
    if "HEIF" in readable():
        pytest.skip("pillow-heif is installed")
    problem = post(client, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").json()
    assert (problem["code"], problem["setting"]) == ("not-an-image", "SERVING_FORMATS")
    assert problem["detail"].endswith(
        "(JPEG, PNG, WEBP): it is HEIF (HEIC), which can be read after `pip install pillow-heif`; "
        "convert it, or do so and start the server with SERVING_FORMATS=JPEG,PNG,WEBP,HEIF"
    )


def test_head_is_get_without_the_body(client: TestClient) -> None:
    routes = client.get("/openapi.json").json()["paths"]
    paths = [path.replace("{picture}", "0") for path, ways in routes.items() if "get" in ways]
    assert len(paths) >= 7
    files = "/", "/docs", "/openapi.json", "/page/index.html", "/swagger/swagger-ui.css", "/no"
    for path in (*paths, *files, "/classify"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        changing = {"x-request-id", "content-length" if path == "/metrics" else ""}
        for name in {*get.headers, *head.headers} - changing:
            assert head.headers.get(name) == get.headers.get(name), (path, name)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/classify", "POST"),
        ("HEAD", "/classify", "POST"),
        ("PUT", "/similar", "POST"),
        ("OPTIONS", "/info", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/livez", "GET, HEAD"),
        ("PATCH", "/thumbnails/0", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("POST", "/page/index.html", "GET, HEAD"),
    ],
)
def test_a_refused_method_is_told_which_are_taken(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    refused = client.request(method, path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/classify/", "/info/", "/docs/", "/page", "/swagger", "/livez/"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_nothing_is_redirected(client: TestClient, method: str, path: str) -> None:
    found = client.request(method, path, follow_redirects=False)
    assert found.status_code == 404
    assert "location" not in found.headers


PAGE = "https://example.org"


@pytest.mark.parametrize("ranges", ["bytes=0-4", "bytes=999999-", "bytes=5-1", "lines=1"])
def test_ranges_of_a_page_are_passed_over(client: TestClient, ranges: str) -> None:
    for path in ("/", "/page/index.html", "/swagger/swagger-ui.css"):
        answer = client.get(path, headers={"range": ranges})
        assert (answer.status_code, answer.content) == (200, client.get(path).content)


def test_nothing_is_redirected_whatever_the_host(client: TestClient) -> None:
    for path in ("/docs/", "/page", "/page/", "/swagger", "/classify/", "/livez/"):
        headers = {"host": "other.org", "x-forwarded-host": "other.org"}
        answer = client.get(path, headers=headers, follow_redirects=False)
        assert answer.status_code == 404, path


def test_pages_of_other_origins_ask_where_the_setting_names_them(
    checkpoint: Checkpoint, jpeg: bytes
) -> None:
    def asked(cors: tuple[str, ...], origin: str = PAGE) -> list[str | None]:
        """Who may read: the preflight, an answer, a refusal by the first layer, and a fault."""
        models = Models((), Served(Predictor([checkpoint])))
        settings = Settings(model=("unused",), cors=cors, max_upload_bytes=100_000)
        ask = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,x-api-key,content-type",
        }
        with TestClient(create_app(settings, models)) as client:
            found = [client.options("/classify", headers={"origin": origin} | ask)]
            if found[0].is_error:
                assert found[0].headers["content-type"] == "application/problem+json"
            for data in (jpeg, bytes(200_000)):
                found.append(
                    client.post("/classify", files={"file": data}, headers={"origin": origin})
                )
            models.ready = None  # type: ignore[assignment]
            found.append(client.get("/info", headers={"origin": origin}))
            assert found[-1].status_code == 500
        return [response.headers.get("access-control-allow-origin") for response in found]

    assert asked(()) == 4 * [None]
    assert asked(("https://other.org",)) == 4 * [None]
    assert asked((PAGE,), "http://example.org") == 4 * [None]
    assert asked(("https://other.org", PAGE)) == 4 * [PAGE]
    assert asked(("*",)) == 4 * ["*"]


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


@pytest.mark.parametrize("route", ["/classify", "/explain", "/similar"])
@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=b", "text/plain"])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate", "br", "gzip, zstd"])
def test_compressed_bodies_are_refused_by_their_header(
    indexed_client: TestClient, jpeg: bytes, route: str, kind: str, encoding: str
) -> None:
    headers = {"content-type": kind, "content-encoding": encoding}
    response = indexed_client.post(route, content=gzip.compress(jpeg), headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "content-encoding")
    assert response.headers["accept-encoding"] == "identity"
    assert f"(Content-Encoding: {encoding})" in response.json()["detail"]
    assert "send it uncompressed" in response.json()["detail"]


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_body_that_is_not_compressed_may_say_so(
    client: TestClient, jpeg: bytes, encoding: str
) -> None:
    headers = {"content-type": "image/jpeg", "content-encoding": encoding}
    assert client.post("/classify", content=jpeg, headers=headers).is_success


def test_a_streamed_body_without_a_length_is_bounded_too(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(40):
            yield b"\0" * 10_000
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/classify", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert "300,000" in response.json()["detail"]


def test_openapi_shows_an_answer_and_every_refusal(client: TestClient) -> None:
    spec = client.get("/openapi.json").json()
    responses = spec["paths"]["/classify"]["post"]["responses"]
    assert {"200", "400", "413", "415", "422"} <= responses.keys()
    (example,) = spec["components"]["schemas"]["Classification"]["examples"]
    assert example["results"][0]["guesses"]
    assert "HTTPValidationError" not in json.dumps(spec)


def test_several_images_each_get_their_own_answer(client: TestClient, jpeg: bytes) -> None:
    files = [("file", data) for data in (png(), b"no image", jpeg, b"")]
    answer = client.post("/classify?top_k=2", files=files).raise_for_status().json()
    good, bad, other, empty = answer["results"]
    assert [result["index"] for result in answer["results"]] == [0, 1, 2, 3]
    assert len(good["guesses"]) == len(other["guesses"]) == 2
    assert (bad["problem"]["status"], bad["problem"]["code"]) == (415, "not-an-image")
    assert empty["problem"]["code"] == "empty"
    assert "guesses" not in bad
    assert "problem" not in good


def test_bare_images_get_a_plain_list(
    client: TestClient, checkpoint: Checkpoint, jpeg: bytes
) -> None:
    whole = post(client, jpeg).json()["results"][0]["guesses"]
    expected = [{"label": g["label"], "score": g["probability"]} for g in whole]
    bare = client.post("/classify", content=jpeg, headers={"content-type": "image/jpeg"})
    assert bare.json() == expected
    assert bare.headers["x-model"] == "tiny"
    assert bare.headers["x-model-step"] == "12"
    assert bare.headers["x-model-sha256"] == checkpoint.about.weights_sha256
    assert bare.headers["x-views"] == "10"
    assert re.fullmatch(r"read;dur=[\d.]+, answer;dur=[\d.]+", bare.headers["server-timing"])
    body = {"inputs": base64.b64encode(jpeg).decode(), "parameters": {"top_k": 3}}
    assert client.post("/classify", json=body).json() == expected[:3]


def test_none_of_these_is_said_where_the_best_guess_is_too_improbable(
    client: TestClient, jpeg: bytes
) -> None:
    plain = post(client, jpeg).json()
    assert "min_probability" not in plain
    assert "none_of_these" not in plain["results"][0]
    best = plain["results"][0]["guesses"][0]["probability"]
    bare = {"content": jpeg, "headers": {"content-type": "image/jpeg"}}
    for least, none in ((0, False), (best, False), (best + 1e-3, True), (1, True)):
        path = f"/classify?min_probability={least}"
        answer = client.post(path, files=[("file", jpeg), ("file", b"no image")]).json()
        good, bad = answer["results"]
        assert answer["min_probability"] == least
        assert good == plain["results"][0] | {"none_of_these": none}
        assert "none_of_these" not in bad
        response = client.post(path, **bare)
        assert response.headers["x-none-of-these"] == str(none).lower()
        assert float(response.headers["x-min-probability"]) == pytest.approx(least, abs=1e-5)
        assert len(response.json()) == 5
    assert "x-none-of-these" not in client.post("/classify", **bare).headers


def test_what_was_published_is_the_default(checkpoint: Checkpoint, jpeg: bytes) -> None:
    """For as many views as it was found with; the temperature is in the answer."""
    hot = calibrated(checkpoint, 4.0, threshold=0.99)
    models = Models((), Served(Predictor([hot])))
    with TestClient(create_app(Settings(model=("unused",)), models)) as client:
        answer = post(client, jpeg).json()
        assert answer["min_probability"] == 0.99
        assert answer["results"][0]["none_of_these"] is True
        image_13SS = torch.from_numpy(whole_image(jpeg, 72)).permute(2, 0, 1)[None]
        expected_K = Predictor([hot]).classify(image_13SS, 10)[0].mean(0)
        assert answer["results"][0]["guesses"][0]["probability"] == pytest.approx(
            expected_K.max().item(), abs=1e-5
        )
        asked = post(client, jpeg, path="/classify?min_probability=0").json()
        assert asked["results"][0]["none_of_these"] is False
        assert "min_probability" not in post(client, jpeg, path="/classify?views=1").json()
        card = client.get("/info").json()
        assert card["calibrated"] == [10]
        assert card["calibrations"][0]["temperature"] == 4.0
        assert card["calibrations"][0]["threshold"]["min_probability"] == 0.99


@pytest.mark.parametrize(
    "query",
    ["top_k=0", "top_k=101", "top_k=x", "views=5", "views=", "detail=all", "min_probability=-0.1",
     "min_probability=1.1", "min_probability=nan", "min_probability=x"],
)  # fmt: skip
def test_bad_parameters_are_named_and_not_echoed(
    client: TestClient, jpeg: bytes, query: str
) -> None:
    response = client.post(f"/classify?{query}", files={"file": jpeg})
    assert response.status_code == 422
    problem = response.json()
    assert problem["code"] == "bad-parameter"
    assert query.split("=")[0] in problem["detail"]


def test_limits_are_stated_in_the_refusal(client: TestClient) -> None:
    problem = post(client, png((3000, 90))).json()
    assert problem == {
        "type": "about:blank",
        "title": HTTPStatus(413).phrase,
        "status": 413,
        "code": "too-large",
        "detail": f"the image's long side is {100 / 3:.15g} times its short side; the limit is 30",
        "request_id": problem["request_id"],
        "limit": 30,
        "seen": pytest.approx(100 / 3),
        "setting": "SERVING_MAX_ASPECT",
    }


def test_every_answer_has_a_name_and_safe_headers(client: TestClient, jpeg: bytes) -> None:
    for response in (post(client, jpeg), post(client, b""), client.get("/"), client.get("/no")):
        assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
    given = client.get("/livez", headers={"x-request-id": "trace-1.a_B"})
    assert given.headers["x-request-id"] == "trace-1.a_B"
    for hostile in ("a b", "x" * 65, "<script>", ""):
        found = client.get("/no", headers={"x-request-id": hostile})
        assert found.headers["x-request-id"] != hostile
        assert found.json()["request_id"] == found.headers["x-request-id"]


def test_an_explanation_is_an_image_of_the_label_asked_for(
    client: TestClient, checkpoint: Checkpoint, jpeg: bytes
) -> None:
    best = post(client, jpeg).json()["results"][0]["guesses"][0]
    response = client.post("/explain", files={"file": jpeg}).raise_for_status()
    assert response.headers["x-label-id"] == best["id"]
    assert response.headers["x-probability"] == f"{best['probability']:.4f}"
    drawn = Image.open(io.BytesIO(response.content))
    assert (drawn.format, drawn.size) == ("PNG", (72, 72))
    other = client.post("/explain?label=n3", files={"file": jpeg})
    assert other.headers["x-label-id"] == "n3"
    assert other.content != response.content
    refused = client.post("/explain?label=nowhere", files={"file": jpeg})
    assert refused.status_code == 422
    assert "no class 'nowhere'" in refused.json()["detail"]
    two = [("file", jpeg), ("file", jpeg)]
    assert client.post("/explain", files=two).json()["code"] == "one-picture"


def test_similar_images_are_the_nearest_training_images(indexed: Path, dataset: Path) -> None:
    """Asked about a training image itself, as packed."""
    with tarfile.open(dataset / "train" / "00000.tar") as tar:
        member = next(member for member in tar if member.name.endswith(".jpg"))
        image = tar.extractfile(member).read()  # type: ignore[union-attr]
    served = Served.load((indexed,))
    with TestClient(create_app(Settings(model=("unused",)), Models((), served))) as client:
        answer = post(client, image, path="/similar").raise_for_status().json()
        first, *others = answer["neighbours"]
        assert len(others) == 5
        assert first["id"] == member.name.split("/")[0]
        assert first["distance"] == pytest.approx(0, abs=1e-2)
        distances = [neighbour["distance"] for neighbour in answer["neighbours"]]
        assert distances == sorted(distances)
        assert answer["index"] == client.get("/info").json()["similar"]
        thumbnail = client.get(first["thumbnail"])
        assert thumbnail.headers["content-type"] == "image/jpeg"
        small = Image.open(io.BytesIO(thumbnail.content)).convert("RGB")
        whole = Image.open(io.BytesIO(image)).convert("RGB").resize(small.size)
        assert np.abs(np.asarray(small, int) - np.asarray(whole, int)).mean() < 8
        assert client.get("/thumbnails/120").status_code == 404
        assert client.get("/thumbnails/-1").status_code == 422


def test_without_an_index_the_command_is_named(client: TestClient, jpeg: bytes) -> None:
    refused = post(client, jpeg, path="/similar")
    assert refused.status_code == 404
    assert "alexnet index MODEL --data DATASET" in refused.json()["detail"]
    assert client.get("/thumbnails/0").json()["code"] == "no-index"


def test_the_kernels_are_an_image(client: TestClient, checkpoint: Checkpoint) -> None:
    sheet = Image.open(io.BytesIO(client.get("/kernels.png").content))
    count = checkpoint.model.conv1.weight.shape[0]
    assert sheet.size == (1 + 12 * min(16, count), 1 + 12 * -(-count // 16))


def test_the_card(client: TestClient, checkpoint: Checkpoint) -> None:
    card = client.get("/info").raise_for_status().json()
    about = checkpoint.about
    assert card["model"]["sha256"] == about.weights_sha256
    assert card["models"] == [card["model"]]
    assert [known["id"] for known in card["classes"]] == [f"n{i}" for i in range(7)]
    assert card["dataset"] == about.dataset
    assert card["picture"] == {"size": 72, "crop": 64, "framing": "crop"}
    assert card["device"] == "cpu"
    assert card["limits"]["max_upload_bytes"] == 300_000
    assert card["limits"]["queue_pictures"] == 64
    assert card["reload"]["failed"] is None
    assert (card["keys"], card["similar"]) == (False, None)


def test_metrics_count_what_was_asked(client: TestClient, jpeg: bytes) -> None:
    def count(line: str) -> float:
        text = client.get("/metrics").text
        return float(dict(re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE)).get(line, 0))

    answered = 'serving_requests_total{method="POST",route="/classify",status="200"}'
    refused = 'serving_refused_total{code="not-an-image"}'
    before = count(answered), count(refused)
    post(client, jpeg)
    post(client, b"no image")
    assert (count(answered), count(refused)) == (before[0] + 1, before[1] + 1)
    assert count("serving_queue_views") == 0
    assert count("serving_queue_capacity_views") == 640


def test_metrics_do_not_grow_with_what_strangers_ask(client: TestClient) -> None:
    for number in range(5):
        client.get(f"/made-up-{number}")
        client.request(f"VERB{number}", "/classify")
    text = client.get("/metrics").text
    assert "made-up" not in text
    assert "VERB" not in text


def test_the_interface_is_documented_without_a_cdn(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "http" not in page.replace('charset="utf-8"', "")
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert client.get(f"/{asset}").status_code == 200, asset


def test_a_server_of_which_a_part_has_died_says_so(checkpoint: Checkpoint) -> None:
    models = Models((), Served(Predictor([checkpoint])))
    with TestClient(create_app(Settings(model=("unused",), reload_s=0.01), models)) as client:
        assert client.get("/livez").status_code == 200
        models.origins = None  # type: ignore[assignment]
        deadline = time.monotonic() + 120
        while client.get("/livez").is_success and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.get("/livez").json()["code"] == "dead"


def test_a_gpu_without_memory_is_not_a_fault(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory; secret")

    served = client.app.state.service.models.served  # type: ignore[attr-defined]
    monkeypatch.setattr(type(served.predictor), "classify", short)
    response = post(client, jpeg)
    assert (response.status_code, response.json()["code"]) == (503, "out-of-memory")
    assert int(response.headers["retry-after"]) >= 1
    assert "secret" not in response.text


def test_a_fault_is_told_without_its_details(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    served = client.app.state.service.models.served  # type: ignore[attr-defined]
    monkeypatch.setattr(type(served.predictor), "classify", broken)
    response = post(client, jpeg)
    assert response.status_code == 500
    assert response.json()["code"] == "fault"
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == response.json()["request_id"]
