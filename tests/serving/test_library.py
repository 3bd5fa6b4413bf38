"""The library and the server say the same."""

from pathlib import Path

import pytest

import alexnet
from tests.serving.conftest import Server
from tests.serving.test_parity import photograph


@pytest.mark.parametrize("views", [1, 10])
def test_a_python_program_gets_the_numbers_that_the_server_sends(
    server: Server, model: Path, views: int
) -> None:
    classifier = alexnet.load(model)
    for seed in range(5):
        photo = photograph(seed)
        response = server.post("/classify", photo, params={"views": views})
        (result,) = response.raise_for_status().json()["results"]
        guesses = classifier(photo, views=views)
        assert [(g.id, g.label) for g in guesses] == [
            (g["id"], g["label"]) for g in result["guesses"]
        ]
        for guess, sent in zip(guesses, result["guesses"], strict=True):
            assert guess.probability == pytest.approx(sent["probability"], abs=1e-6)
