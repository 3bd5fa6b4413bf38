"""Settings from the environment, and the cores that a server counts as its own."""

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from alexnet.formats import readable
from alexnet.pixels import MOST_PIXELS
from serving.settings import Settings, granted_cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", len(os.sched_getaffinity(0)))],
)
def test_a_containers_limit_counts_as_cores(tmp_path: Path, quota: str, cores: int):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert granted_cores(tmp_path / "cpu.max") == cores


def test_without_a_limit_all_cores_are_granted(tmp_path: Path):
    assert granted_cores(tmp_path / "cpu.max") == len(os.sched_getaffinity(0))


def test_lists_are_written_with_commas_and_survive_the_way_to_another_process(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SERVING_MODEL", "a,b")
    monkeypatch.setenv("SERVING_FORMATS", "JPEG,PNG")
    monkeypatch.setenv("SERVING_CORS", "https://example.org,http://localhost:3000")
    settings = Settings()
    assert settings.cors == ("https://example.org", "http://localhost:3000")
    assert (settings.model, settings.formats) == ((Path("a"), Path("b")), ("JPEG", "PNG"))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


@pytest.mark.parametrize(
    "origin",
    ["example.org", "https://example.org/", "https://Example.org", "https://a.org/page", "", "**"],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str):
    with pytest.raises(ValidationError, match="expected an origin as browsers send it"):
        Settings(model=("a",), cors=("https://example.org", origin))


def test_connections_are_kept_longer_than_proxies_keep_theirs():
    assert Settings(model=("a",)).keep_alive_s > 60


@pytest.mark.parametrize(
    ("written", "formats"),
    [
        ("JPEG,PNG", ("JPEG", "PNG")),
        ("jpeg, png", ("JPEG", "PNG")),
        ("JPG,jpeg,Tif", ("JPEG", "TIFF")),
        ("avif, jp2, pgm", ("AVIF", "JPEG2000", "PPM")),
    ],
)
def test_formats_are_named_as_people_name_them(
    monkeypatch: pytest.MonkeyPatch, written: str, formats: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SERVING_FORMATS", written)
    assert Settings(model="m").formats == formats
    assert Settings(model="m", formats=(written,)).formats == formats


@pytest.mark.skipif("HEIF" in readable(), reason="pillow-heif is installed")
@pytest.mark.parametrize("written", ["heic", "HEIF", "JPEG,heif"])
def test_heic_without_what_reads_it_is_refused_with_the_remedy(written: str) -> None:
    with pytest.raises(ValidationError, match=r"not among AVIF, .*`pip install pillow-heif` adds"):
        Settings(model="m", formats=(written,))


def test_the_limit_of_pixels_goes_up_as_far_as_its_ceiling() -> None:
    most = Settings(model="m", max_pixels=MOST_PIXELS)
    assert most.pixels_of("JPEG") == MOST_PIXELS
    assert most.pixels_of("PNG") == MOST_PIXELS // 2
    assert Settings(model="m", max_pixels=100).pixels_of_request == 400
    assert Settings(model="m", max_pixels=100, max_whole_pixels=900).pixels_of("WEBP") == 100
    with pytest.raises(ValidationError, match="less than or equal to 268435456"):
        Settings(model="m", max_pixels=MOST_PIXELS + 1)


@pytest.mark.parametrize(
    ("variable", "remedy"),
    [
        ("SERVING_MODLE", "did you mean SERVING_MODEL?"),
        ("SERVING_PROT", "did you mean SERVING_PORT?"),
        ("serving_worker", "did you mean SERVING_WORKERS?"),
        ("SERVING_ZZZZZZZZ", "unset it"),
    ],
)
def test_a_variable_that_is_no_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, remedy: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ValidationError, match=f"{variable} is x, but there is no such setting; "):
        Settings()
    with pytest.raises(ValidationError, match=re.escape(remedy)):
        Settings(model="m")
    monkeypatch.setenv(variable, "")  # as a Compose file sets what its user did not
    assert Settings(model="m").model == (Path("m"),)


def test_the_clients_key_is_none_of_the_servers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_KEY", "0123456789abcdef")
    assert Settings(model="m").keys is None
