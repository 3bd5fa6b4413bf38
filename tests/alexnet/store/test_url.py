from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.command import UserError
from alexnet.store.url import SCHEMES, StoreURL, place, store_url

PART = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(st.sampled_from(SCHEMES), st.lists(PART, min_size=1, max_size=5), st.sampled_from(["", "/"]))
def test_a_url_is_taken_without_its_last_slash(scheme: str, parts: list[str], end: str) -> None:
    text = f"{scheme}://{'/'.join(parts)}"
    found = place(text + end)
    assert found == text
    assert isinstance(found, StoreURL)
    assert found.bucket == parts[0]
    assert found.name == (parts[-1] if parts[1:] else "")
    assert found / "x" == f"{text}/x"


@pytest.mark.parametrize(
    "text",
    [
        "s3://", "s3:/bucket/x", "s3:///x", "gs://b//x", "az://b/../x", "s3://b/./x", "s3://b/..",
        "s3://user@b/x", "s3://b/x?versionId=1", "s3://b/x#y", "s3://b/a%2fb", "s3://b/a\\b",
        "s3://b/a\nb",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_place_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UserError, match="give s3://BUCKET/PATH"):
        place(text)


@pytest.mark.parametrize("text", ["photos", "/photos", "s3", "./s3:x", "http://x/y", "file:///x"])
def test_all_else_is_a_folder(text: str) -> None:
    assert place(text) == Path(text)


def test_another_scheme_is_no_store() -> None:
    with pytest.raises(UserError, match="http://x/y"):
        store_url("http://x/y")
