"""ImageNet as it is handed out: folders by WordNet's numbers, a flat validation with its table, readable names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.imagenet import class_names, names_by_synset
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError
from convscope.evaluation.scoring import translation

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"
TRUE = [SHARK, TENCH, GOLDFISH, TENCH, SHARK, GOLDFISH]  # of the validation images, in order


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)).save(path, "PPM")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As Kaggle hands it out: Data/CLS-LOC/train and val, tables three folders above the images."""
    place = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    for k, synset in enumerate((TENCH, GOLDFISH, SHARK)):
        for i in range(20):
            write_image(place / "train" / synset / f"{synset}_{i}.JPEG", 100 * k + i)
    for i in range(len(TRUE)):
        write_image(place / "val" / f"ILSVRC2012_val_{i + 1:08}.JPEG", 1000 + i)
    return place


def solve(place: Path) -> None:
    rows = [f"ILSVRC2012_val_{i + 1:08},{TRUE[i]} 1 2 3 4 {TRUE[i]} 5 6 7 8 " for i in reversed(range(len(TRUE)))]
    (place / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))


def checked(data) -> None:
    """Every validation image has its class, by name."""
    seen = {data.origins(i).rsplit("/", 1)[-1]: data.class_names[data.labels[i]] for i in range(len(data))}
    names = names_by_synset()
    for i, synset in enumerate(TRUE):
        assert seen[f"ILSVRC2012_val_{i + 1:08}.JPEG"] in (synset, names[synset])


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_the_flat_validation_is_the_validation_part(root: Path, levels: int) -> None:
    solve((root, *root.parents)[levels])
    data = load_dataset(root)
    assert data.class_names == (TENCH, GOLDFISH, SHARK)
    checked(data)
    assert sorted(data.origins(i).split("/")[0] for i in data.parts["val"]) == ["val"] * len(TRUE)
    assert sorted({data.origins(i).split("/")[0] for i in data.parts["train"]}) == ["train"]


def test_the_validation_alone_and_the_kits_own_numbers(root: Path) -> None:
    kit = {SHARK: 7, TENCH: 3, GOLDFISH: 11}
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{kit[s]}\n" for s in TRUE))
    with pytest.raises(DataError, match=r"an order of its own: lay map_clsloc\.txt"):
        load_dataset(root / "val", need="classes")
    (root / "map_clsloc.txt").write_text("".join(f"{s} {n} some_name\n" for s, n in kit.items()))
    assert not any("not an image" in note for note in load_dataset(root, need="classes").notes)  # the kit was read
    data = load_dataset(root / "val", need="classes")
    assert len(data) == len(TRUE)
    checked(data)
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text("7\n3\nx\n")
    with pytest.raises(DataError, match=r"line 3: 'x' is no class of"):
        load_dataset(root / "val", need="classes")


@pytest.mark.parametrize("form", ["LOC_synset_mapping.txt", "synset_words.txt", "imagenet_class_index.json"])
def test_names_are_readable_where_a_table_lies_beside(root: Path, form: str) -> None:
    solve(root)
    pairs = [(TENCH, "tench, Tinca tinca"), (GOLDFISH, "goldfish"), (SHARK, "great_white_shark")]
    text = "".join(f"{synset} {name}\n" for synset, name in pairs)
    (root.parent / form).write_text(
        json.dumps({str(i): pair for i, pair in enumerate(pairs)}) if "json" in form else text
    )
    data = load_dataset(root)
    assert data.class_names == class_names(1000)[:3]
    checked(data)


def test_other_classes_have_the_names_of_the_table(tmp_path: Path) -> None:
    for k, synset in enumerate(("n99999997", "n99999998", TENCH)):
        for i in range(8):
            write_image(tmp_path / synset / f"{i}.png", 10 * k + i)
    (tmp_path / "synset_words.txt").write_text("n99999997 thing\nn99999998 thing\n")
    assert load_dataset(tmp_path).class_names == ("tench, Tinca tinca", "thing (n99999997)", "thing (n99999998)")


def test_a_pretrained_networks_classes_are_found_by_number_too() -> None:
    known = class_names(1000)
    synsets = tuple(names_by_synset())
    assert len(synsets) == 1000
    assert translation(known, synsets).tolist() == list(range(1000))
    assert translation(known, (SHARK, known[0])).tolist() == [2, 0]
    assert translation((" a", "b", "b\u2003"), ("b", "a", "b\u2003")).tolist() == [1, 0, 2]
    with pytest.raises(DataError, match="does not know the class 'a '"):
        translation(("a", "b"), ("b", "a", "a "))  # two folders are not one class
    with pytest.raises(DataError, match="does not know the class ' b'"):
        translation(("b", "b\u2003"), (" b",))  # which of the two is meant cannot be told
    with pytest.raises(DataError, match="does not know the class 'n99999999'"):
        translation(known, (TENCH, "n99999999"))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4", "names no class for 5 of 6 images"),
        ("ImageId,PredictionString\nILSVRC2012_val_00000001,cat", "'cat', the class of ILSVRC2012_val_00000001, is no"),
        ("", "names no class for 6 of 6 images"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(root: Path, table: str, told: str) -> None:
    (root / "LOC_val_solution.csv").write_text(table)
    with pytest.raises(DataError) as caught:
        load_dataset(root)
    assert told in str(caught.value)
    assert "LOC_val_solution.csv" in str(caught.value)


def test_without_a_table_it_is_as_any_images_outside_class_folders(root: Path) -> None:
    data = load_dataset(root)
    assert "6 images outside the class folders were ignored (the first: 'ILSVRC2012_val_00000001.JPEG')." in data.notes
