"""Make the first image of the README again, from the built-in digits: ``python docs/readme_image.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import convscope
from convscope.explanation.report import most_missed

IMAGES = Path(__file__).parent / "images"
LAYER, FILTERS = "conv2", 3


def card(runs: Path) -> bytes:
    """Cards of the filters of a layer that the lecture's network misses most: the network of ``convscope demo``."""
    run = convscope.train("digits", recipe="digits", runs=runs).run
    explained = convscope.explain(run.folder, layer=[LAYER], runs=runs)
    return most_missed(explained.layers[LAYER], explained.dataset, FILTERS).png


def main() -> None:
    """Write the image."""
    with tempfile.TemporaryDirectory() as folder:
        (IMAGES / "card.png").write_bytes(card(Path(folder)))


if __name__ == "__main__":
    main()
