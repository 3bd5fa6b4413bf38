from pathlib import Path

import pytest

from alexnet.command import UserError
from alexnet.store.access import open_store, s3_config
from alexnet.store.errors import StoreError
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests.object_store import SECRET, Server, environment

CONFIG = """
[default]
region = eu-west-1

[profile lab]
region = eu-central-1
endpoint_url = http://files.lab:9000

[profile single-sign-on]
sso_session = ours
"""
CREDENTIALS = """
[default]
aws_access_key_id = mine
aws_secret_access_key = a%b=c

[lab]
aws_access_key_id = ours
aws_secret_access_key = x
aws_session_token = y
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Variables that name AWS's two files."""
    (tmp_path / "config").write_text(CONFIG)
    (tmp_path / "credentials").write_text(CREDENTIALS)
    return {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }


def test_without_variables_the_default_profile_is_taken(files: dict[str, str]) -> None:
    assert s3_config(files) == {
        "region": "eu-west-1", "access_key_id": "mine", "secret_access_key": "a%b=c",
    }  # fmt: skip


def test_a_profile_has_an_endpoint_and_a_token(files: dict[str, str]) -> None:
    assert s3_config({**files, "AWS_PROFILE": "lab"}) == {
        "region": "eu-central-1", "endpoint": "http://files.lab:9000",
        "access_key_id": "ours", "secret_access_key": "x", "token": "y",
    }  # fmt: skip


def test_variables_come_before_the_profile(files: dict[str, str]) -> None:
    variables = {
        "AWS_ACCESS_KEY_ID": "other", "AWS_REGION": "us-east-2", "AWS_ENDPOINT_URL": "https://x",
    }  # fmt: skip
    assert s3_config({**files, **variables}) == {"region": "us-east-2", "endpoint": "https://x"}


def test_the_endpoint_of_s3_comes_before_that_of_all_services(files: dict[str, str]) -> None:
    both = {"AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_S3": "https://s3"}
    assert s3_config({**files, **both})["endpoint"] == "https://s3"


def test_a_profile_that_is_not_there_is_told(files: dict[str, str]) -> None:
    with pytest.raises(UserError, match="AWS_PROFILE is lap, but neither"):
        s3_config({**files, "AWS_PROFILE": "lap"})


def test_a_profile_without_keys_names_the_command_that_gets_them(files: dict[str, str]) -> None:
    with pytest.raises(UserError, match="aws configure export-credentials"):
        s3_config({**files, "AWS_PROFILE": "single-sign-on"})
    keys = {"AWS_PROFILE": "single-sign-on", "AWS_ACCESS_KEY_ID": "x"}
    assert "access_key_id" not in s3_config({**files, **keys})


def test_a_file_that_cannot_be_read_is_named(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default\n")
    with pytest.raises(UserError, match="config: the file cannot be read"):
        s3_config(files)


def test_azure_needs_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(UserError, match=r"az://box/x: .*set AZURE_STORAGE_ACCOUNT_NAME"):
        open_store(StoreURL("az://box/x"))


def test_a_profile_in_a_file_opens_the_store(
    store_server: Server, files: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = key\naws_secret_access_key = {SECRET}\n"
    )
    with environment({**files, "AWS_ENDPOINT_URL": store_server.endpoint}):
        Store(StoreURL("s3://private/profile")).write("x", b"y")
        assert Store(StoreURL("s3://private/profile")).read("x") == b"y"


def test_a_public_bucket_is_read_without_an_account(store_server: Server) -> None:
    nobody = {"AWS_ENDPOINT_URL": store_server.endpoint, "AWS_SKIP_SIGNATURE": "true"}
    with environment(store_server.environment()):
        Store(StoreURL("s3://public/a")).write("x", b"y")
    with environment(nobody):
        assert Store(StoreURL("s3://public/a")).read("x") == b"y"
        with pytest.raises(StoreError, match=r"s3://private/x: access is denied"):
            Store(StoreURL("s3://private")).read("x")
