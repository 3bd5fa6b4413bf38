"""The benchmark of similar images: what it makes up, what it counts."""

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.similar import QUERIES, main, make_up, measure, recall


def test_made_up_vectors_are_like_last_hidden_layers() -> None:
    feature_PH = np.concatenate(list(make_up(5000, 300)))
    assert (feature_PH.shape, feature_PH.dtype) == ((5000, 300), np.float32)
    assert 0.7 < (feature_PH == 0).mean() < 0.85
    variance_H = np.linalg.eigvalsh(np.cov(feature_PH.T))[::-1]
    assert 0.55 < variance_H[:8].sum() / variance_H.sum() < 0.75
    np.testing.assert_array_equal(feature_PH, np.concatenate(list(make_up(5000, 300))))


def test_recall_counts_true_neighbours_wherever_they_stand() -> None:
    assert recall(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 2, 1], [4, 8, 9]])) == 4 / 6


@pytest.mark.parametrize("kind", ["Flat", "IVF4,SQ8"])
def test_an_index_is_measured(kind: str, tmp_path: Path) -> None:
    np.concatenate(list(make_up(1000 + QUERIES, 32))).tofile(tmp_path / "vectors")
    measured = measure(kind, tmp_path, 1000, 32)
    assert np.shape(measured["found"]) == (QUERIES, 6)
    assert measured["bytes"] == (tmp_path / "index").stat().st_size
    assert min(measured["search_1_s"], measured["search_16_s"], measured["build_s"]) > 0


def test_images_need_a_model(capsys: pytest.CaptureFixture) -> None:
    assert main(["pictures"]) == 2
    assert "the part pictures needs --model and --dataset" in capsys.readouterr().err
