"""The dashboard of a Ray head, which takes jobs over HTTP: whether it answers."""

import json
import os
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from alexnet.proxy import is_loopback, through_proxy
from trainer.run import RunError

ADDRESS = "http://127.0.0.1:8265"
VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Ray's own: where the dashboard is, unless it is at ADDRESS."""
TIMEOUT_S = 5
TAKES = (401, 403)
"""Statuses of a dashboard that wants a token first."""


def address() -> str:
    """Where the dashboard is. Raises RunError where that is no URL, or where no dashboard answers:
    Ray would wait for ever. From here on this process asks a loopback address without a proxy."""
    url = os.environ.get(VARIABLE) or ADDRESS
    host = _host(url)
    if is_loopback(url):
        kept = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        os.environ["no_proxy"] = f"{kept},{host}" if kept else host
    try:
        with urlopen(f"{url.rstrip('/')}/api/version", timeout=TIMEOUT_S) as answer:
            if "ray_version" not in json.load(answer):
                raise ValueError
    except HTTPError as error:
        if error.code not in TAKES:
            raise _no_answer(url, f"{error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _no_answer(url, str(getattr(error, "reason", error)) or repr(error)) from None
    except ValueError:
        raise _no_answer(url, "what answers is no Ray dashboard") from None
    return url


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.hostname
    except ValueError:  # such as a port that is no number
        pass
    raise RunError(f"{VARIABLE} is {url}: write it as http://HOST:8265")


def _no_answer(url: str, reason: str) -> RunError:
    return RunError(
        f"no answer from a Ray head at {url} ({reason}{through_proxy(url)}); start it, or name "
        f"another: {VARIABLE}=http://HOST:8265"
    )
