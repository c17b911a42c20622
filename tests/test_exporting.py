"""Export: every format answers as the network does, elsewhere too, and what was altered is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import runpy
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import convscope
from convscope import storage
from convscope.classifying.classifier import Classifier
from convscope.classifying.prediction import logits, predict
from convscope.classifying.seal import check_seal, seal_images
from convscope.errors import ConvscopeError, DamagedFile, StorageError, UnknownName, UsageError
from convscope.exporting import formats as exporting
from convscope.exporting import predict_onnx
from convscope.exporting.formats import EXPORTS, SCRIPT, export_classifier, to_onnx
from convscope.images.preprocess import Preprocess
from convscope.models.architecture import Architecture
from convscope.models.heads import put_head
from exported_script import run_script
from lively import lively

runtime = pytest.importorskip("onnxruntime")
NAMES = ("a", "b", "c", "d", "e", "f")


def made(name: str = "alexnet", size: int = 32, **preprocess) -> Classifier:
    options = {"width": 8} if name == "alexnet" else {}
    architecture = Architecture(name, size, options)
    network = lively(architecture.build(len(NAMES), seed=0)).eval()
    return Classifier(network, NAMES, Preprocess(size, **preprocess), architecture, {"run": "r", "licence": "mit"})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    export_classifier(made(), folder, "net", "onnx")
    return folder


@pytest.mark.parametrize("format", EXPORTS)
@pytest.mark.parametrize("model", ["alexnet", "resnet20", "speednet"])
def test_every_format_answers_as_the_network_does(format: str, model: str, tmp_path: Path):
    found = export_classifier(made(model), tmp_path, "net", format)
    assert found.format == format
    assert found.max_difference <= found.tolerance
    assert all(path.exists() for path in found.files)
    assert found.bytes > 10_000


def test_a_network_of_others(tmp_path: Path):
    found = export_classifier(made("timm:tf_efficientnet_lite0", 64), tmp_path, "net", "onnx")
    assert found.max_difference <= found.tolerance


def test_the_safetensors_form_is_an_ordinary_classifier_with_a_seal(tmp_path: Path):
    export_classifier(made(), tmp_path, "net", "safetensors")
    again = Classifier.load(tmp_path / "net.safetensors")
    assert check_seal(again) == pytest.approx(0, abs=1e-5)
    assert check_seal(made()) is None
    with torch.no_grad():
        next(again.network.parameters()).mul_(1.5)
    with pytest.raises(DamagedFile, match="sealed images"):
        check_seal(again)
    again.save(tmp_path / "altered.safetensors")
    with pytest.raises(DamagedFile, match="sealed images"):
        convscope.open_classifier(str(tmp_path / "altered.safetensors"))


def test_the_onnx_file_says_all_that_is_needed(exported: Path):
    session = runtime.InferenceSession(str(exported / "net.onnx"), providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["convscope"])
    assert about["classes"] == list(NAMES)
    assert Preprocess.from_dict(about["preprocess"]) == made().preprocess
    assert about["provenance"] == {"run": "r", "licence": "mit"}
    (images,) = session.get_inputs()
    assert images.name == "images"
    assert images.shape == ["batch", 32, 32, 3]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    assert session.run(None, {"images": seal_images(32)[:3]})[0].shape == (3, 6)


def test_the_onnx_file_names_nothing_of_this_machine_and_comes_out_the_same_again(exported: Path, tmp_path: Path):
    data = (exported / "net.onnx").read_bytes()
    assert b"site-packages" not in data
    assert b"exporting.py" not in data
    export_classifier(made(), tmp_path, "net", "onnx")
    assert (tmp_path / "net.onnx").read_bytes() == data


@pytest.mark.parametrize("format", EXPORTS)
def test_a_net_of_the_users_own_is_exported_without_its_folder(format: str, tmp_path: Path):
    source = tmp_path / "somewhere" / "my_net.py"
    source.parent.mkdir()
    source.write_text(
        "from torch import nn\n"
        "def tiny(num_classes):\n"
        "    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)]\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), *end)\n"
    )
    found = export_classifier(made(f"{source}:tiny"), tmp_path, "net", format)
    assert found.max_difference <= found.tolerance
    data = found.files[0].read_bytes()
    assert b"my_net.py:tiny" in data
    assert format != "onnx" or b"somewhere" not in data  # our own form says which file --model has to name


def test_exporting_says_nothing_and_leaves_the_process_as_it_was(capfd: pytest.CaptureFixture[str]):
    filters, out, err, seen = [*warnings.filters], sys.stdout, sys.stderr, []

    class Talking(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.shape)
            sys.stdout.write("looking at an image\n")
            sys.stderr.write("still looking\n")
            warnings.warn("an image", UserWarning, stacklevel=1)
            return images.mean((2, 3))

    to_onnx(Talking(), 8)
    assert seen
    assert [*warnings.filters] == filters
    assert (sys.stdout, sys.stderr) == (out, err)
    assert capfd.readouterr() == ("", "")


def test_a_network_in_training_stays_in_training():
    network = made().network.train()
    to_onnx(network, 32)
    assert all(module.training for module in network.modules())


def test_a_pool_over_the_whole_map_is_written_as_a_maximum_and_stays_in_the_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    pool = network[1]
    model = pytest.importorskip("onnx").load_from_string(to_onnx(network, 8))
    assert {node.op_type for node in model.graph.node} >= {"Conv", "ReduceMax"}
    assert network[1] is pool


def test_the_script_makes_the_same_sealed_images():
    theirs = runpy.run_path(str(SCRIPT), run_name="script")["seal_images"]
    for size in (1, 16, 33):
        assert np.array_equal(theirs(size), seal_images(size))
    assert len({p.tobytes() for p in seal_images(16)}) == 16


def write_images(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (70, 50, 3), dtype=np.uint8)).resize((500, 400))
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(folder / "large.jpg", quality=95)
    image.resize((60, 44)).save(folder / "turned.jpg", exif=turned)
    image.convert("L").resize((40, 90)).save(folder / "grey.png")
    image.convert("P").resize((64, 40)).save(folder / "palette.png")
    clear = image.resize((48, 48)).convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8)))
    clear.save(folder / "clear.png")
    Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)).save(folder / "deep.png")
    image.convert("CMYK").resize((80, 60)).save(folder / "cmyk.jpg")
    radiograph = Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40)
    radiograph.save(folder / "white_is_zero.tif", tiffinfo={262: 0})
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    "preprocess",
    [
        {},
        {"fit": "pad"},
        {"fit": "squash", "mean": (0.2, 0.4, 0.6)},
        {"interpolation": "bicubic", "centre": 0.875},
        {"stretch": True},
    ],
)
def test_the_script_answers_as_predict_does_without_torch(tmp_path: Path, preprocess: dict):
    classifier = made(**preprocess)
    export_classifier(classifier, tmp_path, "net", "onnx")
    (tmp_path / "images").mkdir()
    files = [str(p) for p in write_images(tmp_path / "images")]
    answer = run_script(tmp_path, "--json", *files)
    assert answer.returncode == 0, answer.stderr
    ours = [p.to_json() for p in predict(classifier, [(f, Path(f)) for f in files])]
    for mine, theirs in zip(ours, json.loads(answer.stdout), strict=True):
        assert [t["label"] for t in mine["top"]] == [t["label"] for t in theirs["top"]], mine["path"]
        for a, b in zip(mine["top"], theirs["top"], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


def test_the_script_names_what_it_cannot_read_and_goes_on(exported: Path, tmp_path: Path):
    images = tmp_path / "images"
    images.mkdir()
    good = write_images(images)[-2]
    (tmp_path / "none.png").write_bytes(b"no image")
    (tmp_path / "cut.png").write_bytes((images / "clear.png").read_bytes()[:3000])
    header = b"IHDR" + (30_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0"  # too large, which Pillow says in its own way
    huge = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + zlib.crc32(header).to_bytes(4)
    (tmp_path / "huge.png").write_bytes(huge + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4))
    bad = [str(tmp_path / f"{name}.png") for name in ("none", "cut", "huge", "missing")]
    answer = run_script(exported, *bad, str(good))
    assert answer.returncode == 65
    assert not answer.stderr
    lines = answer.stdout.splitlines()
    assert [line.startswith(f"{path}: cannot be read: ") for line, path in zip(lines, bad, strict=False)] == [True] * 4
    assert re.fullmatch(rf"{re.escape(str(good))}: ([a-f] [0-9.]+ %(, )?){{5}}", lines[4])
    deep = tmp_path / "float.tif"
    Image.fromarray(np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)).save(deep)
    said = f"{deep}: cannot be read: its grey pixels are neither of 8 nor of 16 bits\n"
    answer = run_script(exported, str(deep))
    assert (answer.returncode, answer.stdout) == (65, said)
    assert run_script(exported, "--top", "0", str(good)).returncode == 2
    tiled = run_script(exported, "--tile", str(good))
    assert tiled.returncode == 2
    assert tiled.stderr.endswith("error: tiles are for boxes, and net.onnx finds none\n")
    assert run_script(exported, "--check").stdout == "net.onnx answers the sealed images as when it was exported.\n"


def test_the_script_refuses_what_was_altered(exported: Path, tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(exported / "net.onnx"))
    weights = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    weights.raw_data = bytes(np.frombuffer(weights.raw_data, np.float32) * np.float32(1.1))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "net.predict.py").write_text((exported / "net.predict.py").read_text())
    answer = run_script(tmp_path, "--check")
    assert answer.returncode == 1
    assert "is not what was exported" in answer.stderr
    assert "Traceback" not in answer.stderr
    (tmp_path / "net.onnx").write_bytes((exported / "net.onnx").read_bytes()[:1000])
    answer = run_script(tmp_path, "--check")
    assert answer.returncode == 1
    assert "cannot be opened" in answer.stderr


@pytest.mark.parametrize("part", ["classes", "preprocess", "seal"])
def test_the_script_refuses_another_description(exported: Path, tmp_path: Path, part: str):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(exported / "net.onnx"))
    entry = next(p for p in model.metadata_props if p.key == "convscope")
    about = json.loads(entry.value)
    about[part] = {"classes": [*reversed(NAMES)], "preprocess": about["preprocess"] | {"fit": "pad"}, "seal": {}}[part]
    entry.value = json.dumps(about)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "net.predict.py").write_text((exported / "net.predict.py").read_text())
    answer = run_script(tmp_path, "--check")
    assert answer.returncode == 1
    assert answer.stderr == "net.onnx is not what was exported: a byte of it was altered.\n"


def resealed(folder: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Write a model whose description was changed, and its hash made again: what the hash cannot see."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(folder / "net.onnx"))
    about = json.loads(next(p for p in model.metadata_props if p.key == "convscope").value)
    changed = change(about)
    return exporting._with_description(model.SerializeToString(), about if changed is None else changed)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no seal": lambda about: about.pop("seal") and None,
    "no logits": lambda about: about["seal"].pop("logits") and None,
    "ragged logits": lambda about: about["seal"]["logits"].append([1.0]),
    "fewer logits": lambda about: about["seal"]["logits"].pop() and None,
    "words for logits": lambda about: about["seal"].update(logits="none"),
    "no tolerance": lambda about: about["seal"].pop("tolerance") and None,
    "a word for a tolerance": lambda about: about["seal"].update(tolerance="wide"),
    "no preprocess": lambda about: about.pop("preprocess") and None,
    "no size": lambda about: about["preprocess"].pop("size") and None,
    "another size": lambda about: about["preprocess"].update(size=31),
    "a size of no image": lambda about: about["preprocess"].update(size=-3),
    "a word for a size": lambda about: about["preprocess"].update(size="large"),
    "no classes": lambda about: about.pop("classes") and None,
    "fewer classes": lambda about: about["classes"].pop() and None,
    "a list": lambda about: [about],
    "a number": lambda about: 7,
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_script_says_in_a_sentence_what_it_cannot_use(
    exported: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "net.onnx").write_bytes(resealed(exported, CHANGES[change]))
    said = complaint(tmp_path, monkeypatch)
    assert said.startswith("net.onnx ")
    assert "\n" not in said


def complaint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the script's own way in, in this process, and return the sentence that it ends with."""
    monkeypatch.setattr(predict_onnx, "MODEL", folder / "net.onnx")
    monkeypatch.setattr(sys, "argv", ["net.predict.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        sys.exit(predict_onnx.main())
    assert isinstance(ended.value.code, str)  # which Python prints, and exits with 1
    return ended.value.code


@given(st.tuples(st.integers(0, 10**9), st.integers(0, 7), st.sampled_from(["flip", "cut", "drop", "double", "zeros"])))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_rots_is_a_sentence(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: tuple[int, int, str]
):
    place, bit, how = damage
    data = (exported / "net.onnx").read_bytes()
    at = place % len(data)
    rotten = {
        "flip": data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :],
        "cut": data[:at],
        "drop": data[:at] + data[at + 1 :],
        "double": data[: at + 1] + data[at:],
        "zeros": data[:at] + bytes(64) + data[at + 64 :],
    }[how]
    (tmp_path / "net.onnx").write_bytes(rotten)
    if rotten == data:
        return
    said = complaint(tmp_path, monkeypatch)
    assert said.startswith("net.onnx ")
    assert said.endswith("altered.")
    assert "\n" not in said


def test_the_script_says_which_library_it_lacks(exported: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert complaint(exported, monkeypatch).startswith("onnxruntime cannot be imported (")


def test_the_script_prints_any_name(exported: Path, tmp_path: Path):
    good = write_images(tmp_path)[0]
    names = [os.fsdecode(b"b\xe9.png"), "new\nline.png", "\x1b[31mred.png", "\u65e5\u672c.png", "plain.png"]
    for name in names:
        (tmp_path / name).write_bytes(good.read_bytes())
    for encoding in ("utf-8", "ascii", "latin-1", "cp1252"):
        answer = run_script(exported, *(str(tmp_path / name) for name in names), PYTHONIOENCODING=f"{encoding}:strict")
        assert answer.returncode == 0, answer.stderr
        assert len(answer.stdout.splitlines()) == len(names)
        assert "\x1b" not in answer.stdout


def test_every_bit_of_an_exported_file_that_flips_is_seen(exported: Path, tmp_path: Path):
    """ONNX is read as the script reads it, safetensors as convscope does: 400 places each, the ends among them."""
    made().save(tmp_path / "whole.safetensors")
    random = np.random.default_rng(0)
    for whole, read, error in (
        (exported / "net.onnx", predict_onnx.read_whole, SystemExit),
        (tmp_path / "whole.safetensors", Classifier.load, ConvscopeError),
    ):
        data = whole.read_bytes()
        path = tmp_path / f"altered{whole.suffix}"
        for place in (0, len(data) - 1, *random.integers(0, len(data), 398)):
            altered = bytearray(data)
            altered[place] ^= 1 << random.integers(8)
            path.write_bytes(altered)
            with pytest.raises(error):
                read(path)
        path.write_bytes(data)
        read(path)


def test_a_byte_of_the_script_that_rots_is_seen(exported: Path, tmp_path: Path):
    for name in ("net.onnx", "net.predict.py"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    assert run_script(tmp_path, "--check").returncode == 0
    script = tmp_path / "net.predict.py"
    text = script.read_bytes()
    script.write_bytes(text.replace(b"\n", b"\r\n"))  # as tools that copy texts do
    assert run_script(tmp_path, "--check").returncode == 0
    script.write_bytes(text.replace(b"LEAST, CANDIDATES, MOST = 0.0", b"LEAST, CANDIDATES, MOST = 0.1"))
    assert script.read_bytes() != text
    said = run_script(tmp_path, "--check")
    assert said.returncode == 1
    assert said.stderr.startswith("net.predict.py is not what was exported: if you changed it, delete ")
    lines = script.read_bytes().splitlines(keepends=True)
    (place,) = [i for i, line in enumerate(lines) if b"delete this line and the one above it" in line]
    script.write_bytes(b"".join(lines[: place - 1] + lines[place + 1 :]))
    assert run_script(tmp_path, "--check").returncode == 0


def test_what_does_not_agree_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exporting, "_run", lambda data, images: np.full((16, 6), 7.0))
    with pytest.raises(ConvscopeError, match="is not written: as ONNX its logits differ"):
        export_classifier(made(), tmp_path / "new", "net", "onnx")
    assert not (tmp_path / "new").exists()


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_bad_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnknownName, match="onnx"):
        export_classifier(made(), tmp_path, "net", "onxx")

    monkeypatch.setattr(storage.os, "fsync", full)
    for format in EXPORTS:
        with pytest.raises(StorageError, match="the disk is full"):
            export_classifier(made(), tmp_path, "net", format)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("library", exporting.NEEDED)
@pytest.mark.parametrize("error", [ModuleNotFoundError, ImportError])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, library: str, error: type[ImportError]):
    """And so is one within it, which is missing or cannot be imported; the network is not blamed for it."""
    names = [library, "ml_dtypes"] if error is ModuleNotFoundError else [library]
    for missing in names:

        def cannot(name: str, missing: str = missing) -> None:
            if name == library:
                raise error(f"cannot import {missing}", name=missing)

        monkeypatch.setattr(exporting.importlib, "import_module", cannot)
        with pytest.raises(UsageError, match=rf"ONNX needs .*{missing}.*: pip install .*'convscope\[export\]'\.$"):
            to_onnx(made().network, 32)


def test_a_library_that_fails_within_the_exporter_is_named_too(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **options: object) -> None:
        try:
            raise ModuleNotFoundError("No module named 'ml_dtypes'", name="ml_dtypes")
        except ImportError as error:
            raise RuntimeError("the exporter failed") from error

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UsageError, match="ONNX needs ml_dtypes, which is not installed"):
        to_onnx(made().network, 32)


@pytest.mark.slow
def test_every_flower_is_answered_alike_without_torch(shared_data: Path, tmp_path: Path):
    flowers = shared_data / "flowers12"
    if not flowers.exists():
        pytest.skip(f"there is no {flowers}")
    report = convscope.transfer(flowers, name="net", runs=tmp_path)
    classifier, _ = convscope.open_classifier("net", tmp_path)
    assert classifier.architecture.name == "timm:tf_efficientnet_lite0"
    export_classifier(classifier, tmp_path, "net", "onnx")
    files = [str(p) for p in sorted((flowers / "test").rglob("*.jpg"))]
    assert len(files) == 240
    answer = run_script(tmp_path, "--json", *files)
    ours = [p.to_json() for p in predict(classifier, [(f, Path(f)) for f in files])]
    for mine, theirs in zip(ours, json.loads(answer.stdout), strict=True):
        assert [t["label"] for t in mine["top"]] == [t["label"] for t in theirs["top"]]
        for a, b in zip(mine["top"], theirs["top"], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)
    assert report.best.name == "head"


@pytest.mark.slow
def test_the_logits_of_every_flower_are_the_same_without_torch(shared_data: Path, tmp_path: Path):
    files = sorted((shared_data / "flowers12" / "test").rglob("*.jpg"))
    if not files:
        pytest.skip(f"there is no {shared_data / 'flowers12'}")
    classifier = Classifier.pretrained("lite0")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        put_head(classifier.network, "linear", 12, {})
    classifier = replace(classifier, network=classifier.network.eval(), class_names=tuple("abcdefghijkl"))
    export_classifier(classifier, tmp_path, "net", "onnx")
    code = (
        "import runpy, sys; folder, *files = sys.argv[1:]\n"
        "script = runpy.run_path(folder + '/net.predict.py', run_name='script')\n"
        "session, about = script['open_model'](script['Path'](folder + '/net.onnx'))\n"
        "rows = [session.run(None, {'images': script['read'](f, about['preprocess'])[0][None]})[0][0] for f in files]\n"
        "script['np'].save(folder + '/logits.npy', rows)\n"
        "assert not {'torch', 'convscope', 'torchvision', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), *map(str, files)], check=True, timeout=280)
    theirs = np.load(tmp_path / "logits.npy")
    ours = logits(
        classifier.network, np.stack([classifier.preprocess.fit_image(f) for f in files]), classifier.preprocess
    )
    assert np.abs(theirs - ours.numpy()).max() <= 1e-4 * max(1.0, float(ours.abs().max()))
    first_five = [np.argsort(-rows, 1, kind="stable")[:, :5] for rows in (theirs, ours.numpy())]
    assert np.array_equal(*first_five)


def test_a_replaced_head_is_exported_too(tmp_path: Path):
    classifier = made("timm:tf_efficientnet_lite0", 64)
    put_head(classifier.network, "fcnn", 6, {})
    assert export_classifier(replace(classifier, network=classifier.network.eval()), tmp_path, "n", "onnx").files
