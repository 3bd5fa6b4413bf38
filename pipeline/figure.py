"""A figure on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", picture: Path) -> list[Path]:
    """Write `picture`.png for pages and `picture`.svg for print."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    paths = [picture.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths
