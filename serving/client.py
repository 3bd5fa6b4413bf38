"""alexnet classify: photographs to a running server, answers as a table."""

import json
import os
import re
import sys
import time
from pathlib import Path

import httpx2 as httpx

from alexnet.command import UserError
from alexnet.proxy import is_loopback, through_proxy
from serving.arguments import Classify
from serving.keys import is_sendable

ATTEMPTS = 8
LONGEST_WAIT_S = 30.0
BAR = 30
"""Characters of a probability of one."""


def classify(options: Classify) -> int:
    """Print the labels of each photo, after up to `wait` seconds for the server to be ready.

    A full or starting server is asked again when it says. Status 0, or 1 where a photo was refused,
    once all are asked. Raises UserError where no server answers.
    """
    key = options.key or os.environ.get("SERVING_KEY")
    if key and not is_sendable(key):
        raise UserError(
            "the API key, of --key or SERVING_KEY, has characters other than ASCII, which no "
            "server takes; check it"
        )
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    refused = False
    if not re.match(r"https?://[^/]", options.url):
        raise UserError(f"--url is {options.url}: write it as http://HOST:PORT")
    with _client(options.url, headers) as client:
        _wait_until_ready(client, options.wait)
        for photo in options.photos:
            response = _ask(client, photo, options.top_k)
            if response.is_error:
                refused = True
                print(f"{photo}: {_reason(response)}", file=sys.stderr)
                continue
            answer = response.json()
            if options.json_:
                print(json.dumps({"photo": str(photo)} | answer))
            else:
                print("{} ({name}, step {step})".format(photo, **answer["model"]))
                _print(answer["results"][0]["guesses"])
    return int(refused)


def _client(url: str, headers: dict[str, str]) -> httpx.Client:
    try:
        return httpx.Client(
            base_url=url, timeout=60, headers=headers, trust_env=not is_loopback(url)
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # no proxy, or a SOCKS one
        raise UserError(
            f"{url}: cannot be asked{through_proxy(url)} ({error}); correct the proxy, or name "
            "this host in no_proxy"
        ) from None


def _print(guesses: list[dict]) -> None:
    for guess in guesses:
        bar = "█" * round(BAR * guess["probability"])
        print(f"  {guess['probability']:7.2%}  {guess['label']:32.32}  {bar}".rstrip())


def _wait_until_ready(client: httpx.Client, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)


def _ask(client: httpx.Client, photo: Path, top_k: int) -> httpx.Response:
    try:
        data = photo.read_bytes()
    except OSError as error:
        raise UserError(f"{photo}: {error.strerror}; check the path") from None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = client.post(
                "/classify", params={"top_k": top_k}, files={"file": ("photo", data)}
            )
        except httpx.HTTPError as error:
            url = str(client.base_url)
            raise UserError(
                f"{url}: no answer ({error}{through_proxy(url)}); is the server running? "
                "alexnet serve --model models/NAME"
            ) from None
        if response.status_code not in (429, 503) or attempt == ATTEMPTS:
            break
        seconds = response.headers.get("retry-after", "")
        time.sleep(min(LONGEST_WAIT_S, float(seconds) if seconds.isdigit() else 1.0))
    return response


def _reason(response: httpx.Response) -> str:
    if "json" in response.headers.get("content-type", ""):
        return f"refused with {response.status_code}: {response.json()['detail']}"
    return f"refused with {response.status_code} {response.reason_phrase}"
