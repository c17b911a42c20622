"""Runs of a task other than classes, compared image by image."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope.classifying.classifier import Classifier
from convscope.errors import DataError
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture
from convscope.tasks.paired import paired_figure
from small_targets import discs

SIZE = 32


class Constant(nn.Module):
    """Answers the same number to every image."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(images), 1)


def constant(value: float, name: str, provenance: dict[str, Any] | None = None) -> Classifier:
    architecture, preprocess = Architecture(name, SIZE), Preprocess(SIZE, fit="pad")
    return Classifier(Constant(value), ("radius",), preprocess, architecture, provenance or {}, "regression")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return discs(tmp_path_factory.mktemp("discs") / "discs", 12)


def radii(data: Path) -> np.ndarray:
    return np.array([float(line.split(",")[1]) for line in (data / "sizes.csv").read_text().split()[1:]])


def keys_documented(heading: str) -> set[str]:
    page = (Path(__file__).parents[1] / "docs" / "json.md").read_text(encoding="utf-8")
    rows = page.split(f"### {heading}\n")[1].split("\n#")[0].splitlines()
    return {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")}


def test_the_nearer_number_is_better_image_by_image(data: Path, tmp_path: Path) -> None:
    found = convscope.compare(
        [constant(13.0, "near"), constant(60.0, "far")], data=str(data / "sizes.csv"), runs=tmp_path
    ).summary
    assert found.keys() == keys_documented("Runs of a task compared")
    truth = radii(data)
    errors = [np.abs(truth - value) for value in (13.0, 60.0)]
    assert found["n"] == len(truth)
    assert [row["value"] for row in found["runs"]] == pytest.approx([e.mean() for e in errors])
    (row,) = found["differences"]
    assert row["difference"] == pytest.approx((errors[1] - errors[0]).mean())
    assert row["p"] < 0.001
    assert found["sentences"][0].startswith("near is better than far image by image, by ")
    same = convscope.compare(
        [constant(13.0, "one"), constant(13.0, "other")], data=str(data / "sizes.csv"), runs=tmp_path
    ).summary
    assert "do not differ image by image (p = 1, n = 12)" in same["sentences"][0]


def test_a_pair_is_judged_by_wilcoxons_test() -> None:
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(size=40)
    found = paired_figure(a, b)
    assert found.p == pytest.approx(wilcoxon(a, b).pvalue)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.low < found.difference < found.high
    assert paired_figure(a, a).p == 1.0


def test_runs_of_two_tasks_are_refused(data: Path, tmp_path: Path) -> None:
    labels = replace(constant(0.0, "labels"), task="multi_label")
    with pytest.raises(DataError, match="they cannot be compared"):
        convscope.compare([constant(1.0, "number"), labels], data=str(data / "sizes.csv"), runs=tmp_path)


def own(table: Path, fingerprint: str) -> dict[str, Any]:
    """What a run says of the data it was trained on."""
    return {
        "recipe": {"data": {"name": str(table)}},
        "data": {"name": table.stem, "fingerprint": fingerprint, "counts": {"train": {"radius": 12}}},
    }


def test_data_that_changed_are_named_to_compare_on_them(data: Path, tmp_path: Path) -> None:
    table = data / "sizes.csv"
    convscope.evaluate(constant(1.0, "a"), str(table), runs=tmp_path)  # a user has named it
    changed = [constant(value, name, own(table, "0" * 64)) for value, name in ((1.0, "a"), (2.0, "b"))]
    with pytest.raises(DataError, match="Name it with `data` to compare on it"):
        convscope.compare(changed, runs=tmp_path)
    assert convscope.compare(changed, data=str(table), part="all", runs=tmp_path).summary["n"] == 12


def test_networks_of_other_images_are_compared_on_named_ones(data: Path, tmp_path: Path) -> None:
    table, few = data / "sizes.csv", data / "few.csv"
    few.write_text("\n".join(table.read_text().split()[:9]), encoding="utf-8")
    asked = [convscope.evaluate(constant(1.0, "a"), str(path), runs=tmp_path) for path in (table, few)]
    prints = [found.summary["fingerprint"] for found in asked]
    pair = [constant(1.0, "a", own(table, prints[0])), constant(2.0, "b", own(few, prints[1]))]
    with pytest.raises(DataError, match="name images that neither has seen, with `data`"):
        convscope.compare(pair, part="all", runs=tmp_path)
    assert convscope.compare(pair, data=str(few), part="all", runs=tmp_path).summary["n"] == 8
