"""Folders of images as people have them: nested, linked, half hidden, oddly named, with a bad image in between."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.folder import UNREAD
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError, UsageError
from convscope.images.decoding import EXTENSIONS
from convscope.visible import visible

SOURCE = Path(__file__).resolve().parents[1] / "src"


def write_image(path: Path, seed: int) -> None:
    """PPM, whatever the name says: every version of Pillow writes the same bytes, so the parts are always the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path, "PPM")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(60):
        write_image(tmp_path / "images" / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    return tmp_path / "images"


@pytest.fixture
def split_folder(folder: Path) -> Path:
    """train and test above the class folders; 30 and 5 images a class."""
    root = folder.parent / "split"
    root.mkdir()
    folder.rename(root / "train")
    for seed in range(100, 110):
        write_image(root / "test" / ("dog", "cat")[seed % 2] / f"{seed}.png", seed)
    return root


def refused(path: Path, **options: str) -> str:
    """The one sentence with which the folder is refused."""
    with pytest.raises(DataError) as caught:
        load_dataset(path, **options)
    assert caught.value.exit_code == 65
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_folder_a_class(folder: Path) -> None:
    data = load_dataset(folder)
    assert data.name == "images"
    assert data.class_names == ("cat", "dog")
    assert data.images.shape == (60, 64, 64, 3)
    assert {data.origins(i).split("/")[0] for i in np.flatnonzero(data.labels == 1)} == {"dog"}
    for i in (0, 31, 59):
        expected = data.preprocess.fit_image(folder / data.origins(i))
        assert np.array_equal(data.images[i], expected)
    assert data.notes == ()
    assert not data.test_given


def test_a_folder_is_named_in_any_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_dataset(folder)
    monkeypatch.chdir(folder)
    for way in (".", "../images", str(folder) + "/"):
        data = load_dataset(way)
        assert (data.name, data.fingerprint) == ("images", plain.fingerprint)


def test_names_of_files_and_their_order_do_not_count(folder: Path) -> None:
    plain = load_dataset(folder)
    for i, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(path.with_name(f"{(i * 37) % 101}-new.png"))
    data = load_dataset(folder)
    assert data.fingerprint == plain.fingerprint
    assert {p: set(data.keys[i]) for p, i in data.parts.items()} == {
        p: set(plain.keys[i]) for p, i in plain.parts.items()
    }
    (folder / "dog").rename(folder / "wolf")
    assert load_dataset(folder).fingerprint != plain.fingerprint


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "TEST")])
def test_train_and_test_folders_above(split_folder: Path, names: tuple[str, str]) -> None:
    for old, new in zip(("train", "test"), names, strict=True):
        (split_folder / old).rename(split_folder / new)
    data = load_dataset(split_folder)
    assert data.class_names == ("cat", "dog")
    assert data.counts()["test"] == {"cat": 5, "dog": 5}
    assert all(data.origins(i).startswith(f"{names[1]}/") for i in data.parts["test"])
    assert all(data.origins(i).startswith(f"{names[0]}/") for p in ("train", "val") for i in data.parts[p])
    assert data.test_given
    assert len(data.parts["train"]) + len(data.parts["val"]) == 60
    assert len(data.parts["val"]) > 2
    assert data.notes == ()


def test_classes_go_by_name_and_not_by_their_place(split_folder: Path) -> None:
    """Test folders lack a class: by place the labels would shift."""
    write_image(split_folder / "train" / "ant" / "1.png", 300)
    data = load_dataset(split_folder)
    assert data.class_names == ("ant", "cat", "dog")
    assert data.counts()["test"] == {"ant": 0, "cat": 5, "dog": 5}
    for i in data.parts["test"]:
        assert data.origins(i).split("/")[1] == data.class_names[data.labels[i]]
    assert "class 'ant': no image in test." in data.notes


def test_a_class_that_training_does_not_know_is_refused(split_folder: Path) -> None:
    write_image(split_folder / "test" / "Dog" / "1.png", 500)
    assert "'Dog' " in refused(split_folder)
    assert refused(split_folder).endswith("Did you mean 'dog'?")


def test_copies_of_test_images_are_dropped_from_training(split_folder: Path) -> None:
    for i in range(100, 104):
        source = split_folder / "test" / ("dog", "cat")[i % 2] / f"{i}.png"
        (split_folder / "train" / source.parent.name / f"copy{i}.png").write_bytes(source.read_bytes())
    data = load_dataset(split_folder)
    dropped = set(range(len(data))) - {int(i) for part in data.parts.values() for i in part}
    assert {data.origins(i) for i in dropped} == {f"train/{('dog', 'cat')[i % 2]}/copy{i}.png" for i in range(100, 104)}
    (note,) = data.notes
    assert note.startswith("4 training images (the first: train/cat/copy101.png)")


def test_split_folders_with_something_beside_them_are_not_taken_for_classes(split_folder: Path) -> None:
    write_image(split_folder / "extra" / "1.png", 1)
    assert "also 'extra'" in refused(split_folder)
    (split_folder / "extra").rename(split_folder / ".extra")
    assert load_dataset(split_folder).class_names == ("cat", "dog")
    (split_folder / "train").rename(split_folder / "val")
    assert "no train folder" in refused(split_folder)


def test_a_class_may_be_called_train(folder: Path) -> None:
    (folder / "cat").rename(folder / "train")
    assert load_dataset(folder).class_names == ("dog", "train")
    (folder / "dog").rename(folder / "invalid")
    (folder / "train").rename(folder / "valid")
    assert load_dataset(folder).class_names == ("invalid", "valid")


def test_what_is_no_image_is_ignored_with_a_count(folder: Path) -> None:
    (folder / ".ipynb_checkpoints").mkdir()
    write_image(folder / ".ipynb_checkpoints" / "x.png", 0)
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    write_image(folder / "cat" / "__MACOSX" / "y.png", 0)
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "LICENCE").write_text("x")
    write_image(folder / "stray.png", 400)
    data = load_dataset(folder)
    assert data.class_names == ("cat", "dog")
    assert len(data) == 60
    assert data.notes == (
        "3 hidden files or folders were ignored (the first: '.ipynb_checkpoints').",
        "2 files whose names are not an image's were ignored (the first: 'LICENCE').",
        "1 image outside the class folders was ignored ('stray.png').",
    )


def test_folders_that_do_not_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert "holds no class folders: expected one folder a class" in refused(tmp_path / "none")
    (folder / "empty").mkdir()
    assert "empty holds no image" in refused(folder)
    (folder / "empty" / "notes.txt").touch()
    assert "empty holds no image" in refused(folder)
    write_image(tmp_path / "one" / "only" / "1.png", 1)
    assert "one class, 'only'" in refused(tmp_path / "one")
    write_image(tmp_path / "flat" / "1.png", 1)
    assert "holds no class folders" in refused(tmp_path / "flat")
    for name in ("train", "test"):
        (tmp_path / "hollow" / name).mkdir(parents=True)
    assert "is without class folders in its train, val or test folders" in refused(tmp_path / "hollow")
    write_image(tmp_path / "hollow" / "train" / "1.png", 1)
    assert "is without class folders in its train, val or test folders" in refused(tmp_path / "hollow")


def test_a_folder_wrapped_in_another_is_offered(folder: Path) -> None:
    (folder.parent / "wrapped").mkdir()
    folder.rename(folder.parent / "wrapped" / "inner")
    said = refused(folder.parent / "wrapped")
    assert "one class, 'inner'" in said
    assert said.endswith(f"Did you mean {folder.parent / 'wrapped' / 'inner'}?")


@pytest.mark.parametrize(
    ("one", "other", "what"), [("cat", "CAT", "letter case"), ("\u00e9", "e\u0301", "how an accent is written")]
)
def test_classes_that_are_spelt_almost_alike_are_noted(tmp_path: Path, one: str, other: str, what: str) -> None:
    for seed, name in enumerate((one, other, "dog") * 10):
        write_image(tmp_path / "p" / name / f"{seed}.png", seed)
    if len(list((tmp_path / "p").iterdir())) < 3:
        pytest.skip("this file system does not tell the names apart")
    data = load_dataset(tmp_path / "p")
    assert len(data.class_names) == 3
    first, second = sorted((one, other))
    assert f"classes {first!r} and {second!r} differ in {what} alone: are they one?" in data.notes


def test_odd_names_and_nested_folders(folder: Path) -> None:
    names = [
        "with space.png",
        "émoji 🐈.png",
        "new\nline.png",
        "-dash.png",
        "UPPER.PNG",
        "a'b\"c$(d);*.png",
        os.fsdecode(b"\xff.png"),
    ]
    for seed, name in enumerate(names):
        write_image(folder / "cat" / "deep" / "-er\n" / name, 200 + seed)
    data = load_dataset(folder)
    assert len(data) == 67
    found = {data.origins(i) for i in range(67) if data.labels[i] == 0}
    assert {visible(f"cat/deep/-er\n/{name}") for name in names} < found
    for name in (" ", "-l\n", "日本", os.fsdecode(b"caf\xe9")):
        write_image(folder / name / "1.png", 300 + len(name))
    data = load_dataset(folder)
    assert set(data.class_names) == {"cat", "dog", " ", r"-l\n", "日本", r"caf\xe9"}
    assert len(data.fingerprint) == 64


def test_loops_do_not_hang_and_are_no_class(folder: Path) -> None:
    (folder / "round").symlink_to(folder)
    (folder / "up").symlink_to(folder.parent)
    (folder / "cat" / "loop").symlink_to(folder / "cat")
    (folder / "cat" / "self.png").symlink_to("self.png")
    data = load_dataset(folder, bad_images="skip")
    assert data.class_names == ("cat", "dog")
    assert len(data) == 60
    assert "3 linked folders were ignored (the first: 'round')." in data.notes
    assert any("cat/self.png: cannot be opened" in note for note in data.notes)


def test_a_link_to_itself_among_the_classes_is_ignored(folder: Path) -> None:
    (folder / "knot").symlink_to("knot")
    data = load_dataset(folder)
    assert data.class_names == ("cat", "dog")
    assert any("'knot'" in note for note in data.notes)


def test_linked_class_folders_and_images_are_followed(folder: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "1.png", 300)
    (folder / "bird").symlink_to(tmp_path / "elsewhere")
    (folder / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    data = load_dataset(folder)
    assert data.class_names == ("bird", "cat", "dog")
    assert data.counts()["train"]["bird"] == 1
    assert {"bird/1.png", "cat/linked.png"} < {data.origins(i) for i in range(62)}
    assert "2 images (the first: bird/1.png) are under more than one class." in data.notes


def test_a_pipe_named_as_an_image_is_not_opened(folder: Path) -> None:
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "cat" / "gone.png").symlink_to("nowhere.png")
    said = refused(folder)
    assert "cat/pipe.png: not a file" in said
    assert "cat/gone.png: does not exist" in said


def test_a_bad_image_is_named_or_left_out_without_shifting_labels(folder: Path) -> None:
    (folder / "cat" / "10.png").write_bytes((folder / "cat" / "10.png").read_bytes()[:100])
    (folder / "dog" / "11.png").write_text("<p>")
    assert refused(folder) == (
        "2 of 60 images cannot be read: cat/10.png: truncated; "
        "dog/11.png: not an image (PNG, JPEG, WEBP, AVIF, GIF, BMP, TIFF or PPM). "
        "Mend or remove them; train, features and transfer leave them out with `bad_images` skip, which leaves 58."
    )
    data = load_dataset(folder, bad_images="skip")
    assert len(data) == 58
    (note,) = data.notes
    assert note.startswith("2 images cannot be read and are left out: cat/10.png: truncated; dog/11.png")
    for i in range(58):
        assert np.array_equal(data.images[i], data.preprocess.fit_image(folder / data.origins(i)))
        assert data.origins(i).startswith(data.class_names[data.labels[i]])


def test_many_bad_images_make_no_long_message(folder: Path) -> None:
    for path in (folder / "cat").iterdir():
        path.write_bytes(b"")
    said = refused(folder)
    assert said.startswith("30 of 60 images cannot be read: cat/0.png: empty file; ")
    assert "and 25 more" in said
    data = load_dataset(folder, bad_images="skip")
    assert "class 'cat': without any image." in data.notes
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"")
    said = refused(folder, bad_images="skip")
    assert said.startswith("none of the 60 images can be read")
    assert "skip" not in said


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_what_may_not_be_read_is_named() -> None:
    """Root reads everything, so somebody else looks at it: with an image, a class folder and then all of it closed."""
    code = """
import os, sys
from pathlib import Path
import torch  # before what it is installed in may be out of sight
from convscope.datasets.registry import load_dataset
from convscope.errors import DataError
root = Path(sys.argv[1])
for path in (root / "cat" / "0.png", root / "cat", root):
    path.chmod(0)
    os.seteuid(65534)
    try:
        load_dataset(root)
    except DataError as error:
        print(error)
    os.seteuid(0)
    path.chmod(0o755)
"""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        for seed in range(8):
            write_image(Path(name) / "images" / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
        root, cache = Path(name) / "images", Path(name) / "cache"
        cache.mkdir()
        cache.chmod(0o777)
        Path(name).chmod(0o755)
        environment = os.environ | {"PYTHONPATH": str(SOURCE), "CONVSCOPE_CACHE": str(cache)}
        command = [sys.executable, "-c", code, str(root)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith("1 of 8 images cannot be read: cat/0.png: cannot be opened: permission denied")
    assert second == f"{root / 'cat'} cannot be read: Permission denied."
    assert third == f"{root} cannot be read: Permission denied."


def test_real_folders_raise_no_note(shared_data: Path) -> None:
    flowers = load_dataset(shared_data / "flowers12")
    assert flowers.notes == ()
    assert set(flowers.counts()["test"].values()) == {20}
    assert len(flowers.class_names) == 12
    tumours = load_dataset(shared_data / "braintumor2")
    assert tumours.notes == ()
    assert len(np.unique(tumours.keys)) == 253 - 25
    for key in tumours.keys:
        assert sum(key in tumours.keys[index] for index in tumours.parts.values()) == 1


def test_images_of_kinds_that_are_not_read_are_counted_by_kind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.images.file_names.reads_heic", lambda: False)
    for n, name in enumerate(["a.HEIC", "b.heic", "c.heif", "d.psd", "e.CR2", "f.nef", "g.svg", "h.jxl", "notes.txt"]):
        (folder / ("cat", "dog")[n % 2] / name).write_bytes(b"x")
    notes = load_dataset(folder).notes
    told = "8 images of kinds that are not read were left out: 3 of HEIC, 2 of raw photographs, 1 of SVG"
    assert any(note.startswith(told) and "pip install 'convscope[heic]'" in note for note in notes)
    assert "1 file whose name is not an image's was ignored ('notes.txt')." in notes


def test_no_kind_that_is_read_is_said_not_to_be() -> None:
    assert not set(UNREAD) & set(EXTENSIONS)


def test_classes_of_names_are_found_by_a_pattern(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for i in range(30):
            path = tmp_path / "data" / part / f"{('cat', 'dog')[i % 2]}.{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(
                np.random.default_rng(i + 99 * (part == "test")).integers(0, 256, (9, 9, 3), np.uint8)
            ).save(path)
    data = load_dataset(tmp_path / "data", label_from="^([a-z]+)")
    assert data.class_names == ("cat", "dog")
    assert len(data.parts["test"]) == 30
    assert all(data.origins(i).split("/")[1].startswith(data.class_names[data.labels[i]]) for i in range(len(data)))
    with pytest.raises(DataError, match=r"`label_from` '\^\(x\)' finds no label in 60 of 60 names: test/cat.0.png"):
        load_dataset(tmp_path / "data", label_from="^(x)")
    with pytest.raises(UsageError, match="is no regular expression"):
        load_dataset(tmp_path / "data", label_from="(")


def clips(root: Path) -> None:
    """Ten clips of six images in two classes."""
    for i in range(60):
        path = root / ("cat", "dog")[i % 2] / f"clip{i // 6}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9, 3), np.uint8)).save(path)


def test_groups_of_names_stay_on_one_side(tmp_path: Path) -> None:
    clips(tmp_path / "data")
    data = load_dataset(tmp_path / "data", group="^(clip[0-9]+)")
    side: dict[str, str] = {}
    for part, index in data.parts.items():
        for i in index:
            clip = data.origins(int(i)).split("/")[1].split("_")[0]
            assert side.setdefault(clip, part) == part
    assert len(side) == 10
    assert len(set(side.values())) > 1
    with pytest.raises(DataError, match="`group` 'patient' finds nothing in any of 60 names"):
        load_dataset(tmp_path / "data", group="patient")


def test_groups_that_share_a_copy_stay_together(tmp_path: Path) -> None:
    clips(tmp_path / "data")
    for clip in range(9):  # each has an image of the next one: all are one group
        first = sorted((tmp_path / "data" / "cat").glob(f"clip{clip}_*.png"))[0]
        (tmp_path / "data" / "cat" / f"clip{clip + 1}_{90 + clip}.png").write_bytes(first.read_bytes())
    data = load_dataset(tmp_path / "data", group="^(clip[0-9]+)")
    assert len(np.unique(data.together)) == 1
