"""Models published while the server runs."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from pathlib import Path

import httpx2 as httpx
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from alexnet import atomic, checkpoint
from alexnet.pixels import whole_image
from alexnet.views import probabilities
from tests.serving.conftest import SIZE, Server, publish, serve, wait_for
from tests.serving.connections import load

STEPS = count(2)
ANSWERED = 'serving_requests_total{method="POST",route="/classify",status="200"'


def expected(model: Path, data: bytes) -> list[float]:
    """Probabilities by the published model, in this process."""
    network, mean_3HW, _, _ = checkpoint.load(model)
    image_13SS = torch.from_numpy(whole_image(data, SIZE)).permute(2, 0, 1)[None]
    return probabilities(network, image_13SS, mean_3HW, 10)[0].tolist()


def found(response: httpx.Response) -> list[float]:
    (result,) = response.raise_for_status().json()["results"]
    by_id = {guess["id"]: guess["probability"] for guess in result["guesses"]}
    return [by_id[f"n{label}"] for label in range(7)]


def digest(model: Path) -> str:
    return checkpoint.read_about(checkpoint.current(model)).weights_sha256


def point(model: Path, directory: str) -> None:
    atomic.write(model / "current.json", json.dumps({"directory": directory}).encode())


def served(server: Server) -> str:
    return server.client.get("/info").raise_for_status().json()["model"]["sha256"]


def failed(server: Server) -> str | None:
    return server.client.get("/info").raise_for_status().json()["reload"].get("failed")


def test_under_load_each_answer_is_one_models_own(
    hardy: Server, published: Path, jpeg: bytes
) -> None:
    steps = [next(STEPS), next(STEPS)]
    wanted = {}
    for step in steps:
        publish(published.parent, step=step, seed=step)
        wanted[digest(published)] = expected(published, jpeg)
    wait_for(lambda: served(hardy) == digest(published))
    with load(hardy.url, jpeg) as answers:
        for step in 2 * steps:
            point(published, f"{step:08d}")
            wait_for(lambda: served(hardy) == digest(published))
            enough = len(answers) + 10
            wait_for(lambda enough=enough: len(answers) > enough)
    for answer in answers:
        assert answer.response is not None
        sha256 = answer.response.raise_for_status().json()["model"]["sha256"]
        assert found(answer.response) == pytest.approx(wanted[sha256], abs=1e-5)


def flip_a_bit(model: Path) -> None:
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1000] ^= 1
    (model / "model.safetensors").write_bytes(weights)


def cut_short(model: Path) -> None:
    replace(model, (model / "model.safetensors").read_bytes()[:-1000])


def without_numbers(model: Path) -> None:
    tensors = load_tensors((model / "model.safetensors").read_bytes())
    tensors["fc8.bias"].fill_(torch.nan)
    replace(model, save_tensors(tensors))


def replace(model: Path, weights: bytes) -> None:
    (model / "model.safetensors").write_bytes(weights)
    describe(model, weights_sha256=sha256(weights).hexdigest())


def describe(model: Path, **changed: object) -> None:
    about = json.loads((model / "about.json").read_text())
    (model / "about.json").write_text(json.dumps(about | changed))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit, "the file is damaged: its SHA-256"),
        (cut_short, "this is not a safetensors file"),
        (lambda model: describe(model, version=2), "another version wrote the file"),
        (lambda model: describe(model, size=64.5), "size is 64.5: expected a whole number"),
        (lambda model: describe(model, step=-1), "step is -1: expected at least 0"),
        (without_numbers, "fc8.bias holds numbers that are not finite"),
        (
            lambda model: describe(model, golden={"labels": [0], "probabilities": [0.99]}),
            "the model's probabilities for the built-in test image differ",
        ),
        (shutil.rmtree, "there is no published model"),
    ],
)
def test_a_damaged_model_is_refused_and_the_old_one_answers(
    hardy: Server, published: Path, jpeg: bytes, damage: Callable, reason: str
) -> None:
    before = served(hardy)
    shutil.copytree(checkpoint.current(published), published / "damaged")
    damage(published / "damaged")
    point(published, "damaged")
    wait_for(lambda: hardy.metric("serving_reload_failed ") == 1)
    assert reason in failed(hardy)
    assert hardy.post("/classify", jpeg).raise_for_status().json()["model"]["sha256"] == before
    assert hardy.client.get("/readyz").is_success

    step = next(STEPS)
    publish(published.parent, step=step, seed=step)
    wait_for(lambda: served(hardy) == digest(published))
    assert failed(hardy) is None
    assert hardy.metric("serving_reload_failed ") == 0
    shutil.rmtree(published / "damaged", ignore_errors=True)


def test_what_is_put_right_in_place_is_taken(hardy: Server, published: Path) -> None:
    good = checkpoint.current(published)
    point(published, "late")  # copied before the directory that it names
    wait_for(lambda: failed(hardy) is not None)
    step = next(STEPS)
    publish(published.parent, "other", step=step, seed=step)
    (published.parent / "other" / f"{step:08d}").rename(published / "late")
    wait_for(lambda: served(hardy) == digest(published))
    assert failed(hardy) is None

    (published / "current.json").write_text("{")
    wait_for(lambda: failed(hardy) is not None)
    point(published, "late")
    wait_for(lambda: failed(hardy) is None)
    point(published, good.name)
    wait_for(lambda: served(hardy) == digest(good))


@pytest.mark.slow
def test_several_answer_together_once_all_are_published(tmp_path: Path, jpeg: bytes) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    words = ("--model", a, "--model", b, "--wait-for-model")
    with serve(*words, ready=False, reload_s=0.2) as server:
        for name in ("a", "b"):
            refused = server.post("/classify", jpeg)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert f"{tmp_path / name}: there is no published model" in refused.json()["detail"]
            publish(tmp_path, name, seed=ord(name))
            wait_for(lambda: str(a) not in server.client.get("/readyz").text)
        wait_for(lambda: server.client.get("/readyz").is_success)
        answer = server.post("/classify", jpeg, params={"top_k": 7})
        each = zip(expected(a, jpeg), expected(b, jpeg), strict=True)
        assert found(answer) == pytest.approx([(x + y) / 2 for x, y in each], abs=1e-5)
        assert answer.json()["model"]["name"] == "a+b"
        members = server.client.get("/info").json()["models"]
        assert [member["sha256"] for member in members] == [digest(a), digest(b)]


@pytest.mark.slow
def test_two_processes_take_it_both_and_count_together(
    pair: Server, published: Path, jpeg: bytes
) -> None:
    step = next(STEPS)
    publish(published.parent, step=step, seed=step)
    loaded = pair.metric('serving_reloads_total{outcome="loaded"')
    wait_for(lambda: pair.metric('serving_reloads_total{outcome="loaded"') == loaded + 2)
    answered = pair.metric(ANSWERED)
    with load(pair.url, jpeg) as answers:
        wait_for(lambda: len(answers) > 20)
    digests = {answer.response.json()["model"]["sha256"] for answer in answers if answer.response}
    assert digests == {digest(published)}
    wait_for(lambda: pair.metric(ANSWERED) == answered + len(answers))
    assert pair.metric("serving_model{") == 1
