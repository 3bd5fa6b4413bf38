"""alexnet classify: photographs to a running server, answers as a table."""

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx2 as httpx

from alexnet.bounds import MAX_BYTES
from alexnet.command import UserError
from alexnet.proxy import is_loopback, through_proxy
from serving.arguments import Classify
from serving.keys import is_sendable
from serving.photographs import Limits, Photograph, batches, find_photographs

ATTEMPTS = 8
LONGEST_WAIT_S = 30.0
MOST_FILES = 8
"""Of a request: more would wait longer for its answer, and be answered no faster."""
AGAIN = (429, 503)
"""Statuses of a server that is full or not ready: it is asked again."""
ALIKE = (*AGAIN, 401, 403)
"""Statuses that each photograph of a request would get alone, too."""
BAR = 30
"""Characters of a probability of one."""


def classify(options: Classify) -> int:
    """Print the labels of each photo, after up to `wait` seconds for the server to be ready.

    A full or starting server is asked again when it says. Status 0; or 1 where a photo got no
    answer, once all are asked; or 2 where none could be read. Raises UserError where no server
    answers.
    """
    key = options.key or os.environ.get("SERVING_KEY")
    if key and not is_sendable(key):
        raise UserError(
            "the API key, of --key or SERVING_KEY, has characters other than ASCII, which no "
            "server takes; check it"
        )
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if not re.match(r"https?://[^/]", options.url):
        raise UserError(f"--url is {options.url}: write it as http://HOST:PORT")
    places = find_photographs(options.photos)
    asked_for: dict[str, Any] = {"top_k": options.top_k}
    if options.min_probability is not None:
        asked_for["min_probability"] = options.min_probability
    asked = answered = said = 0
    with _client(options.url, headers) as client:
        _wait_until_ready(client, options.wait)
        for batch in batches(places, _limits(client, len(places))):
            try:
                answers = _answers(client, batch, asked_for)
            except UserError as error:
                if not asked:
                    raise
                raise UserError(
                    f"{error}; {batch[0].shown} and what comes after it got no answer "
                    f"({len(places) - said:,} of {len(places):,})"
                ) from None
            asked += sum(not photo.fault for photo in batch)
            for photo, answer in zip(batch, answers, strict=True):
                said += 1
                answered += isinstance(answer, dict)
                _print(photo, answer, as_json=options.json_)
    if not asked:
        return 2
    return int(answered < len(places))


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


def _print(photo: Photograph, answer: dict[str, Any] | str, *, as_json: bool) -> None:
    """The answer on stdout, or on stderr why there is none; as JSON each photo is one line."""
    if isinstance(answer, str):
        print(f"{photo.shown}: {answer}", file=sys.stderr, flush=True)
        answer = {"error": answer}
        if not as_json:
            return
    if as_json:
        print(json.dumps({"photo": str(photo.path)} | answer), flush=True)
        return
    print("{} ({name}, step {step})".format(photo.shown, **answer["model"]))
    if answer["results"][0].get("none_of_these"):
        print(f"  none of these: the best guess has less than {answer['min_probability']:.2%}")
    for guess in answer["results"][0]["guesses"]:
        bar = "█" * round(BAR * guess["probability"])
        print(f"  {guess['probability']:7.2%}  {guess['label']:32.32}  {bar}".rstrip())
    sys.stdout.flush()


def _wait_until_ready(client: httpx.Client, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)


def _limits(client: httpx.Client, photos: int) -> Limits:
    """What one request may hold; of a server that does not say, one photograph."""
    if photos > 1:
        response = _ask(client, "GET", "/info")
        try:
            limits = response.json()["limits"]
            return Limits(min(MOST_FILES, int(limits["max_files"])), limits["max_upload_bytes"])
        except (ValueError, KeyError, TypeError):
            pass
    return Limits(1, MAX_BYTES)


def _answers(
    client: httpx.Client, photos: Sequence[Photograph], parameters: dict[str, Any]
) -> list[dict[str, Any] | str]:
    """For each of them what the server answers, as if it had been sent alone, or why there is no
    answer. Raises UserError where no server answers."""
    sent = [photo for photo in photos if not photo.fault]
    answers = iter(_sent(client, sent, parameters))
    return [photo.fault or next(answers) for photo in photos]


def _sent(
    client: httpx.Client, photos: Sequence[Photograph], parameters: dict[str, Any]
) -> list[dict[str, Any] | str]:
    if not photos:
        return []
    response = _ask(
        client, "POST", "/classify", params=parameters,
        files=[("file", ("photo", photo.data)) for photo in photos],
    )  # fmt: skip
    if not response.is_success:
        if len(photos) == 1 or response.status_code in ALIKE:
            return [_reason(response)] * len(photos)
        return [answer for photo in photos for answer in _sent(client, [photo], parameters)]
    try:
        answer = response.json()
        results = zip(photos, answer["results"], strict=True)
        return [_result(answer, result) for _, result in results]
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{client.base_url}: what answers is no server of this program; correct --url"
        ) from None


def _result(answer: dict[str, Any], result: dict[str, Any]) -> dict[str, Any] | str:
    if problem := result.get("problem"):
        return f"refused with {problem['status']}: {problem['detail']}"
    return answer | {"results": [result | {"index": 0}]}


def _ask(client: httpx.Client, method: str, path: str, **content: Any) -> httpx.Response:
    """The response, after as many attempts as a full or starting server asks for; a connection that
    breaks is tried once more, as that of a server that ends. Raises UserError."""
    broken = False
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = client.request(method, path, **content)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError) and not (
                broken or isinstance(error, httpx.ConnectError)
            ):
                broken = True
                continue
            url = str(client.base_url)
            raise UserError(
                f"{url}: no answer ({error}{through_proxy(url)}); is the server running? "
                "alexnet serve --model models/NAME"
            ) from None
        if response.status_code not in AGAIN or attempt == ATTEMPTS:
            break
        seconds = response.headers.get("retry-after", "")
        time.sleep(min(LONGEST_WAIT_S, float(seconds) if seconds.isdigit() else 1.0))
    return response


def _reason(response: httpx.Response) -> str:
    try:
        return f"refused with {response.status_code}: {response.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"refused with {response.status_code} {response.reason_phrase}"
