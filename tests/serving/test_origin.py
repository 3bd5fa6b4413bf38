"""A model served from object storage: found there, kept while the store is away."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from alexnet.checkpoint import ABOUT, POINTER, WEIGHTS
from alexnet.store.models import local
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from serving.__main__ import main
from serving.origin import Origin
from serving.settings import Settings
from tests import object_store
from tests.serving.conftest import Server, publish, serve, wait_for

MODELS = StoreURL("s3://private/models")
DEAD = object_store.Server(9, [])
"""Nothing listens there."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def info(server: Server) -> dict:
    return server.client.get("/info").raise_for_status().json()


def reload(server: Server) -> dict:
    return info(server)["reload"]


def test_folders_and_urls_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_MODEL", "s3://bucket/models/a/,models/b")
    settings = Settings()
    assert settings.model == (StoreURL("s3://bucket/models/a"), Path("models/b"))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_a_server_outlives_its_store(cache: Path, tmp_path: Path, jpeg: bytes) -> None:
    def step() -> int:
        return server.post("/classify", jpeg).raise_for_status().json()["model"]["step"]

    with ExitStack() as first:
        store = first.enter_context(object_store.serving(tmp_path / "first"))
        first.enter_context(object_store.environment(store.environment()))
        publish(MODELS, step=1)
        server = first.enter_context(serve("--model", MODELS / "tiny", reload_s=0.2))
        assert step() == 1
        assert reload(server)["away"] is None
        assert reload(server)["asked_at"]

        publish_damaged(2)
        wait_for(lambda: reload(server)["failed"])
        assert "00000002/model.safetensors: the object is damaged" in reload(server)["failed"]
        assert (step(), server.metric("serving_store_away_seconds ")) == (1, 0)
        publish(MODELS, step=3, seed=3)
        wait_for(lambda: step() == 3)
        assert reload(server)["failed"] is None

        store.kill()
        wait_for(lambda: reload(server)["away"])
        assert f"{MODELS}/tiny/current.json: the store did not answer" in reload(server)["away"]
        wait_for(lambda: server.metric("serving_store_away_seconds ") > 1)
        assert (step(), reload(server)["failed"]) == (3, None)
        assert server.client.get("/readyz").is_success

        with object_store.serving(tmp_path / "second", store.ports):
            publish(MODELS, step=4, seed=4)
            wait_for(lambda: step() == 4)
            assert reload(server)["away"] is None
            assert server.metric("serving_store_away_seconds ") == 0


def publish_damaged(step: int) -> None:
    """Below the name `tiny`, as no publisher would."""
    publish(MODELS, "other", step=step, seed=step)
    published, name = Store(MODELS / "other"), f"{step:08d}/{WEIGHTS}"
    weights = bytearray(published.read(name))
    weights[-1000] ^= 1
    damaged = Store(MODELS / "tiny")
    damaged.write(name, bytes(weights))
    for name in (f"{step:08d}/{ABOUT}", POINTER):
        damaged.write(name, published.read(name))


def test_a_server_starts_without_its_store_where_there_is_a_copy(
    cache: Path,
    tmp_path: Path,
    store_server: object_store.Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = StoreURL("s3://private/started-without")
    members = "--model", models / "a", "--model", publish(tmp_path, "b")
    with object_store.environment(store_server.environment()):
        publish(models, "a")
    with object_store.environment(DEAD.environment()):
        assert main([*map(str, members)]) == 2
        refused = capsys.readouterr().err
        assert f"{models}/a/current.json: the store did not answer" in refused
        assert refused.count("\n") == 1
        with serve(*members, "--wait-for-model", ready=False, reload_s=0.2) as server:
            said = f"{models}/a/current.json: the store did not answer"
            wait_for(lambda: said in server.client.get("/readyz").text)
            with object_store.environment(store_server.environment()):
                local(models / "a")
            wait_for(lambda: server.client.get("/readyz").is_success)
            assert info(server)["model"]["name"] == "a+b"
            assert reload(server)["away"]
            assert reload(server)["asked_at"] is None
        Origin(models / "a").check()  # as at the next start
