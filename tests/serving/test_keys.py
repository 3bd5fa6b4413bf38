"""Who may ask."""

import re
import subprocess
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from alexnet.checkpoint import Checkpoint
from alexnet.command import UserError
from alexnet.predictor import Predictor
from serving.app import create_app
from serving.keys import Keys
from serving.models import Models, Served
from serving.settings import Settings

KEYS = ("0123456789abcdef", "key-of-0123456789")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# of the first team\n{KEYS[0]}\n\n  {KEYS[1]}  \n")
    return path


def test_all_keys_of_the_file_and_no_other(path: Path) -> None:
    keys = Keys(path)
    assert all(key in keys for key in KEYS)
    for other in ("", "# of the first team", KEYS[0][:-1], KEYS[0] + "0", KEYS[0].upper()):
        assert other not in keys


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "the file has no API key"),
        (b"# one\n\n", "the file has no API key"),
        (b"0123456789abcdef\nshort\n", "key number 2 is shorter than 16 characters"),
        (b"\xff\xfe", "the file has no API key"),
        ("0123456789abcdef\nschlüssel-0123456789\n".encode(), "key number 2 has characters other"),
        (b"0123456789\tabcdef\n", "key number 1 has characters other"),
        (b"# caf\xe9\n", r"line 1: the API keys are not in UTF-8 \(byte 0xE9\)"),
        (None, "cannot be read"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=text) as error:
        Keys(path)
    assert str(path) in str(error.value)


def test_a_file_that_anyone_may_write_is_refused_with_the_remedy(path: Path) -> None:
    path.chmod(0o666)
    with pytest.raises(UserError, match="any user of this machine may write") as error:
        Keys(path)
    command = re.findall("`(.+)`", str(error.value))[0]
    subprocess.run(["sh", "-c", command], check=True)
    assert KEYS[0] in Keys(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_of_another_editor(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "keys").write_text("\r\n".join(KEYS), encoding)
    assert all(key in Keys(tmp_path / "keys") for key in KEYS)


def test_answers_need_a_key_and_health_does_not(
    path: Path, checkpoint: Checkpoint, jpeg: bytes
) -> None:
    settings = Settings(model=("unused",), keys=path)
    models = Models((), Served(Predictor([checkpoint])))
    with TestClient(create_app(settings, models)) as client:

        def ask(**headers: str) -> int:
            return client.post("/classify", files={"file": jpeg}, headers=headers).status_code

        assert ask() == 401
        assert ask(authorization=f"Bearer {KEYS[0]}x") == 403
        assert ask(authorization=f"Basic {KEYS[0]}") == 401
        assert ask(authorization=f"Bearer {KEYS[0]}") == 200
        assert ask(**{"x-api-key": KEYS[0]}) == 200
        for route in ("/info", "/kernels.png", "/thumbnails/0"):
            refused = client.get(route)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["code"] == "no-key"
        for route in ("/", "/livez", "/readyz", "/startupz", "/metrics", "/docs", "/openapi.json"):
            assert client.get(route).status_code == 200, route
