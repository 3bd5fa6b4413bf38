"""python -m serving classify: photographs to a running server, answers as a table."""

import time
from pathlib import Path

import httpx2 as httpx

from alexnet.command import UserError
from serving.schemas import Classification


def classify(photos: list[Path], url: str, wait_s: float) -> None:
    """Print the labels of each photo, after up to `wait_s` for the server to be ready.

    Raises UserError if there is no server, or it refuses a photo.
    """
    with httpx.Client(base_url=url, timeout=60) as client:
        _wait_until_ready(client, wait_s)
        for photo in photos:
            answer = _post(client, photo)
            print(f"{photo} ({answer.model.name}, step {answer.model.step})")
            for guess in answer.guesses:
                bar = "#" * round(30 * guess.probability)
                print(f"  {guess.probability:7.2%}  {guess.label:32.32}  {bar}")


def _wait_until_ready(client: httpx.Client, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)


def _post(client: httpx.Client, photo: Path) -> Classification:
    try:
        data = photo.read_bytes()
        response = client.post("/classify", files={"file": (photo.name, data)})
    except OSError as error:
        raise UserError(f"{photo}: {error.strerror}") from None
    except httpx.HTTPError as error:
        raise UserError(
            f"{client.base_url}: no answer ({error}); is the server running? "
            "python -m serving --model models/NAME"
        ) from None
    if response.is_error:
        detail = response.json()["detail"] if "json" in response.headers["content-type"] else ""
        raise UserError(f"{photo}: refused with {response.status_code}: {detail}")
    return Classification.model_validate_json(response.content)
