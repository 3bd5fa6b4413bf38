"""Opens a store as the tools of its cloud do: credentials, region and endpoint from where they
look."""

import os
from collections.abc import Mapping
from configparser import ConfigParser, Error
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from alexnet.command import UserError
from alexnet.store.url import StoreURL

STALLED = timedelta(seconds=20)
"""After so long without a byte a request is given up, and made again."""
# One more layer of waiting lies above (alexnet.store.store), which says that it waits.
QUICK_RETRIES: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}


def open_store(url: StoreURL) -> ObjectStore:
    """The store below `url`; asks nothing of the network. Raises UserError where it cannot be
    opened."""
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    prefix, config = path or None, s3_config(os.environ) if scheme == "s3" else {}
    client: Any = {
        "timeout": timedelta(minutes=10),
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": STALLED,
        "allow_http": config.get("endpoint", "").startswith("http://"),
    }
    try:
        if scheme == "gs":
            return GCSStore(
                bucket, prefix=prefix, client_options=client, retry_config=QUICK_RETRIES
            )
        if scheme == "az":
            return AzureStore(
                bucket, prefix=prefix, client_options=client, retry_config=QUICK_RETRIES
            )
        return S3Store(
            bucket, prefix=prefix, config=cast(Any, config), client_options=client,
            retry_config=QUICK_RETRIES,
        )  # fmt: skip
    except (BaseError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{url}: the store cannot be opened ({reason}); {ACCOUNTS[scheme]}"
        ) from None


ACCOUNTS = {
    "s3": "check AWS_ACCESS_KEY_ID or AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL",
    "gs": "check GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or another credential",
}
"""By scheme, where to look when the store does not let one in."""
BY_COMMAND = ("sso_session", "sso_start_url", "role_arn", "credential_process", "login_session")
"""Lines of a profile that has no keys of its own."""


def s3_config(environment: Mapping[str, str]) -> dict[str, str]:
    """What obstore does not find by itself: the endpoint under the name of one service, and the
    profile in AWS's own two files. Variables come before files, as in all of AWS's tools."""
    profile = _profile(environment)
    found = {
        "endpoint": environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url"),
        "region": environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or profile.get("region", "us-east-1"),
    }
    elsewhere = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
    if not any(environment.get(name) for name in elsewhere):
        if "aws_access_key_id" not in profile and any(line in profile for line in BY_COMMAND):
            raise UserError(
                "the AWS profile has no keys, but another way to get them, which only AWS's own "
                'tool knows; set them by `eval "$(aws configure export-credentials --format env)"`'
            )
        found |= {
            "access_key_id": profile.get("aws_access_key_id"),
            "secret_access_key": profile.get("aws_secret_access_key"),
            "token": profile.get("aws_session_token"),
        }
    return {name: value for name, value in found.items() if value}


def _profile(environment: Mapping[str, str]) -> dict[str, str]:
    """The profile's lines in ~/.aws/config, and over them those in ~/.aws/credentials."""
    home = Path.home() / ".aws"
    name = environment.get("AWS_PROFILE") or "default"
    section = name if name == "default" else f"profile {name}"
    lines: dict[str, str] = {}
    for variable, file, wanted in (
        ("AWS_CONFIG_FILE", home / "config", section),
        ("AWS_SHARED_CREDENTIALS_FILE", home / "credentials", name),
    ):
        path = environment.get(variable) or str(file)
        parser = ConfigParser(interpolation=None, default_section="")
        try:
            parser.read(path)
        except (Error, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: the file cannot be read ({error}); correct it") from None
        if parser.has_section(wanted):
            lines |= dict(parser[wanted])
    if not lines and environment.get("AWS_PROFILE"):
        raise UserError(
            f"AWS_PROFILE is {name}, but neither {home / 'config'} nor {home / 'credentials'} has "
            "such a profile; correct the name, or add it: `aws configure`"
        )
    return lines
