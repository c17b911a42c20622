"""What lies in a folder that somebody sent and is no plain file, or says more than it holds: one sentence each."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope import tensor_files
from convscope.datasets.asked import find_asked
from convscope.datasets.coco_boxes import read_coco_boxes
from convscope.datasets.corrections import Correction, read_corrections, write_corrections
from convscope.datasets.options import DatasetOptions
from convscope.datasets.pack import read_pack
from convscope.datasets.polygons import read_coco
from convscope.datasets.table_reading import read_table
from convscope.datasets.voc import read_voc
from convscope.datasets.yolo import read_yolo
from convscope.datasets.yolo_names import read_yaml
from convscope.errors import MOST_SHOWN, ConvscopeError, DamagedFile, DataError
from convscope.evaluation.report import Predictions
from convscope.feature_store.store import Store
from convscope.folders import check_own_files
from convscope.storage import commit_json, parse_bounded
from convscope.studies.hand_ins import read_hand_ins
from convscope.visible import cell, of_cell, path_cell
from load_bombs import sound

READERS = {
    "a.xml": read_voc, "a.txt": read_yolo, "data.yaml": read_yaml, "coco.json": read_coco_boxes,
    "masks.json": read_coco,
    "table.csv": read_table,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    with pytest.raises(DataError, match=name):
        READERS[name](path)


@pytest.mark.parametrize("task", [None, "detection", "segmentation"])
def test_a_folder_with_pipes_and_devices_is_read_around_them(task: str | None, tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(np.full((16, 16, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    os.mkfifo(tmp_path / "0.xml")
    os.mkfifo(tmp_path / "1.txt")
    os.mkfifo(tmp_path / "data.yaml")
    (tmp_path / "instances.json").symlink_to("/dev/zero")
    with suppress(DataError):
        find_asked(str(tmp_path), DatasetOptions(), task, None)


def test_a_run_holds_files_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.json").write_text("{}")
    check_own_files(tmp_path)
    os.mkfifo(tmp_path / "a" / "log.jsonl")
    with pytest.raises(DamagedFile, match=r"log\.jsonl is no file, and a run holds files alone"):
        check_own_files(tmp_path)
    (tmp_path / "a" / "log.jsonl").unlink()
    check_own_files(tmp_path)
    (tmp_path / "a" / "x").symlink_to("b.json")
    with pytest.raises(DamagedFile, match="is a link"):
        check_own_files(tmp_path)


def test_a_shard_that_is_a_link_is_as_good_as_absent(tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "store"
    folder.mkdir()
    tensors = {"keys": torch.zeros(2, 32, dtype=torch.uint8), "features": torch.ones(2, 3)}
    tensor_files.commit_tensors(tmp_path / "a.safetensors", tensors, {})
    (folder / "a.safetensors").symlink_to(tmp_path / "a.safetensors")
    store = Store(folder, "float32")
    assert store.shape == ()
    assert store.damaged == [folder / "a.safetensors"]


def test_an_outcome_that_is_a_link_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    commit_json(tmp_path / "secret.json", {"a": 1})
    (tmp_path / "anna" / "toy.json").symlink_to(tmp_path / "secret.json")
    _, refused = read_hand_ins([tmp_path / "anna"])
    assert [(path.name, "is a link" in reason) for path, reason in refused] == [("toy.json", True)]


@pytest.mark.parametrize("odd", [{"verdict": []}, {"quantities": [None]}, {"seconds": "long"}, {"claim": {}}])
def test_the_page_of_studies_leaves_out_what_has_other_types(odd: dict, tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    from convscope.page.served import Served
    from convscope.page.study_view import study_page

    whole = {"claim": "dropout-gap", "size": "small", "verdict": "holds", "quantities": [], "notes": [], "seeds": [1],
             "seconds": 1.0}  # fmt: skip
    (tmp_path / "study").mkdir()
    commit_json(tmp_path / "study" / "a.json", whole)
    commit_json(tmp_path / "study" / "b.json", whole | odd)
    (tmp_path / "study" / "c.json").symlink_to(tmp_path / "study" / "a.json")
    assert study_page(Served(tmp_path))["counts"] == {"holds": 1}


def test_a_file_longer_than_its_header_says_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sound(path)
    os.truncate(path, 1 << 40)
    for read in (tensor_files.read_tensors, tensor_files.read_foreign_tensors):
        with pytest.raises(DamagedFile, match="longer than its header says"):
            read(path)


def test_a_large_drawing_is_not_shown(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    from convscope.page.run_view import LARGEST, drawings_of
    from convscope.training.runs import Run

    (tmp_path / "curves.png").touch()
    assert list(drawings_of(Run(tmp_path))) == ["curves.png"]
    os.truncate(tmp_path / "curves.png", LARGEST + 1)
    assert not drawings_of(Run(tmp_path))


def test_lists_too_deep_in_each_other_are_told_as_such(tmp_path: Path) -> None:
    deep = "[" * 150_000 + "]" * 150_000
    with pytest.raises(ValueError, match="too deep"):
        parse_bounded(deep)
    (tmp_path / "a.u8").write_bytes(bytes(64) + deep.encode() + len(deep).to_bytes(8, "little"))
    assert read_pack(tmp_path / "a.u8", 4, 16) is None


def test_a_corner_beyond_all_numbers_squares_to_none(tmp_path: Path) -> None:
    from convscope.datasets.polygons import draw_outlines
    from convscope.images.decoding import read_header

    box = {
        "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 16}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 1e308, 0, 1e308, 8, 0, 8]]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(box))
    ((_, outlines),) = read_coco(tmp_path / "a.json")[1].items()
    image = tmp_path / "a.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(image)
    assert draw_outlines(outlines, read_header(image)).sum() == 8 * 16


def test_parquet_holds_no_more_than_its_size_explains(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from convscope.datasets.embedded import load_parquet

    path = tmp_path / "a.parquet"
    many = np.zeros(3_000_000, int)
    parquet.write_table(pa.table({"path": pa.array(["a.png"]).take(pa.array(many))}), path, compression="zstd")
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="unpacks to more than its size explains"):
        load_parquet(path)
    path.write_bytes(b"PAR1" + bytes(64) + b"\x40\0\0\0PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_parquet(path)


def test_a_sentence_is_cut_where_a_file_names_megabytes() -> None:
    said = str(DataError(f"no column {'x' * 10**6} in it: say which."))
    assert len(said) == MOST_SHOWN
    assert said.startswith("no column xxx")
    assert said.endswith("xxx in it: say which.")
    assert str(ConvscopeError("x" * MOST_SHOWN)) == "x" * MOST_SHOWN


@pytest.mark.parametrize("name", ["=1+1", "'-x", "+a", "-a", "@a", "\t=1", "\uff1d1", "-", "-2+3"])
def test_a_name_that_a_spreadsheet_would_compute_is_written_with_an_apostrophe(name: str, tmp_path: Path) -> None:
    assert cell(name) == f"'{name}"
    assert of_cell(cell(name)) == name
    path = tmp_path / "corrections.csv"
    write_corrections(path, [Correction("0" * 64, "relabel", name, "a reason", f"{name}.png")])
    assert f"'{name}" in path.read_text()
    assert read_corrections(path)[0].label.strip() == name.strip()


@given(st.text("'=-a1", max_size=6) | st.text(max_size=6))
def test_every_name_comes_back_from_its_cell(name: str) -> None:
    assert of_cell(cell(name)) == name


def test_names_and_numbers_that_are_none_stay_as_they_are() -> None:
    for name in ("cat", "'cat'", "'tis", "-1.5", "+1e-3", "a=b", "", "1"):
        assert cell(name) == name
        assert of_cell(name) == name
    assert path_cell("=1.png") == "./=1.png"
    assert path_cell("/a/=1.png") == "/a/=1.png"


def test_answers_as_a_table_hold_no_formula() -> None:
    class Row:
        def to_json(self) -> dict:
            return {"path": "=1.png", "label": "=2", "probability": 0.5}

    assert Predictions([Row()]).csv().splitlines()[1] == "./=1.png,'=2,0.5,"  # pyrefly: ignore[bad-argument-type]


def test_a_class_called_by_an_endless_number_is_refused(tmp_path: Path) -> None:
    from convscope.datasets.yolo_names import _yaml_names

    path = tmp_path / "data.yaml"
    path.write_text(f"names: [1:{':'.join(['59'] * 3000)}, b]\n")
    with pytest.raises(DataError, match="a number beyond all classes: write names in quotes"):
        _yaml_names(path, read_yaml(path))
    path.write_text('names: ["1:59:59", b]\n')
    assert _yaml_names(path, read_yaml(path)) == {0: "1:59:59", 1: "b"}


def test_weights_with_one_number_in_place_of_many_are_told_as_misshapen(tmp_path: Path) -> None:
    import torch

    from convscope.models.matching_weights import match_weights

    network = torch.nn.Linear(3, 2)
    with pytest.raises(ConvscopeError, match="bias"):
        match_weights(
            network, {"": {"weight": torch.zeros(2, 3), "bias": torch.zeros(())}}, tmp_path / "w.pt", "net", 8
        )


@pytest.mark.parametrize("value", ["'-alert(1)-'", "", "0001-01-01T00:00", "9999-12-31T23:59:59+00:00", "2026-13-01"])
def test_what_is_no_time_is_shown_as_a_dash(value: str) -> None:
    pytest.importorskip("starlette")
    from convscope.page.rendering import moment

    assert moment(value) in ("\u2013", "0001-01-01 00:00", "9999-12-31 23:59")
    assert moment("2026-11-29T10:20:30") == "2026-11-29 10:20"
