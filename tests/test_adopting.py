"""Networks from elsewhere: their own libraries' outputs are the oracle, and an independent residual net."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import convscope
from convscope import cli
from convscope.errors import ConvscopeError, DamagedFile, DataError, LockedError, UsageError
from convscope.evaluation.adopting import read_classes
from convscope.images.preprocess_files import read_preprocess
from convscope.models.pickled_weights import read_weight_groups
from convscope.models.registry import build

TIMM = [
    "resnet18",
    "convnext_atto",
    "efficientnet_lite0",
    "mobilenetv3_small_050",
    "regnetx_002",
    "vit_tiny_patch16_224",
]
TORCHVISION = ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"]
USUAL = {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.25, 0.2)}


def names(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("".join(f"class {i}\n" for i in range(count)), encoding="utf-8")
    return path


def shaken(network: nn.Module) -> nn.Module:
    """Weights and statistics as no initialisation leaves them, so that a swapped pair would be seen."""
    torch.manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor * (1 + 0.1 * torch.rand_like(tensor)) + 0.01 * torch.rand_like(tensor))
    return network.eval()


def library_network(source: str, name: str, size: int) -> nn.Module:
    if source == "timm":
        timm = pytest.importorskip("timm")
        sized = {"img_size": size} if name.startswith("vit") else {}
        return timm.create_model(name, pretrained=False, num_classes=7, **sized)
    models = pytest.importorskip("torchvision.models")
    return models.get_model(name, weights=None, num_classes=7)


@pytest.mark.parametrize(("source", "name"), [("timm", n) for n in TIMM] + [("torchvision", n) for n in TORCHVISION])
def test_an_adopted_network_answers_as_its_library_does(tmp_path: Path, source: str, name: str):
    size = 96
    network = shaken(library_network(source, name, size))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    adopted = convscope.adopt(
        f"{source}:{name}", weights=tmp_path / "weights.pth", classes=names(tmp_path, 7), input_size=size, **USUAL
    )
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        wanted, found = network(images), adopted.classifier.network(images)
    assert wanted.abs().max() > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert adopted.classifier.class_names[6] == "class 6"


class PlainBlock(nn.Module):
    """A basic block of He and others 2015 (arXiv:1512.03385) with their option A, as an independent oracle."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.step = 2 if width != before else 1
        self.one = nn.Conv2d(before, width, 3, self.step, 1, bias=False)
        self.one_norm = nn.BatchNorm2d(width)
        self.two = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.two_norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two_norm(self.two(torch.relu(self.one_norm(self.one(x)))))
        short = x[:, :, :: self.step, :: self.step]
        extra = y.shape[1] - x.shape[1]
        zeros = torch.zeros(len(x), extra // 2, *short.shape[2:])
        return torch.relu(y + torch.cat([zeros, short, zeros], dim=1))


class PlainNet(nn.Module):
    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = [16] * blocks + [32] * blocks + [64] * blocks
        self.blocks = nn.ModuleList(map(PlainBlock, [16, *widths], widths))
        self.last = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first_norm(self.first(x)))
        for block in self.blocks:
            x = block(x)
        return self.last(x.mean(dim=(2, 3)))


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9)])
def test_residual_nets_with_option_a_are_those_of_the_paper(tmp_path: Path, name: str, blocks: int):
    oracle = shaken(PlainNet(blocks, 10))
    ours = build(name, 10, 32, {"shortcut": "pad"})
    # Both list their layers from the image on, so the tensors go together one by one.
    renamed = dict(zip(ours.state_dict(), oracle.state_dict().values(), strict=True))
    torch.save({"state_dict": {f"module.{n}": t for n, t in renamed.items()}, "epoch": 3}, tmp_path / "w.th")
    adopted = convscope.adopt(
        name, weights=tmp_path / "w.th", classes=names(tmp_path, 10), input_size=32, shortcut="pad", **USUAL
    )
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(adopted.classifier.network(images), oracle(images), rtol=1e-5, atol=1e-5)
    assert any("module." in note for note in adopted.notes)
    assert any("state_dict" in note for note in adopted.notes)


# ---------------------------------------------------------------------------------------------------- the weights


def small() -> nn.Module:
    return shaken(build("resnet20", 4, 32))


def adopt_small(tmp_path: Path, file: Path, **more: object) -> convscope.AdoptReport:
    return convscope.adopt("resnet20", weights=file, classes=names(tmp_path, 4), input_size=32, **{**USUAL, **more})


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model.backbone.", "_orig_mod.", "net.module."])
def test_a_prefix_is_taken_off_and_said(tmp_path: Path, prefix: str):
    state = small().state_dict()
    save_file({prefix + n: t.contiguous() for n, t in state.items()}, tmp_path / "w.safetensors")
    adopted = adopt_small(tmp_path, tmp_path / "w.safetensors")
    for name, tensor in adopted.classifier.network.state_dict().items():
        torch.testing.assert_close(tensor, state[name])
    assert bool(adopted.notes) == bool(prefix)


def test_what_a_trainer_keeps_beside_the_network_is_left_out_and_said(tmp_path: Path):
    state = {f"model.{n}": t for n, t in small().state_dict().items()} | {"loss.weight": torch.ones(4)}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"state_dict": state, "optimizer": optimizer, "epoch": 7, "hyper": {"lr": 0.1}}, tmp_path / "w.ckpt")
    adopted = adopt_small(tmp_path, tmp_path / "w.ckpt")
    assert any("loss.weight" in note for note in adopted.notes)


def test_of_two_networks_in_a_file_the_usual_one_is_taken_and_both_are_told(tmp_path: Path):
    state = small().state_dict()
    averaged = {n: t * 2 if t.is_floating_point() else t for n, t in state.items()}
    torch.save({"ema": averaged, "model": state}, tmp_path / "w.pt")
    adopted = adopt_small(tmp_path, tmp_path / "w.pt")
    torch.testing.assert_close(adopted.classifier.network.state_dict()["conv1.weight"], state["conv1.weight"])
    assert any("'ema' fit too" in note for note in adopted.notes)


def test_half_a_network_is_told_by_its_halves(tmp_path: Path):
    state = {n: t for n, t in small().state_dict().items() if n.split(".")[0] in ("conv1", "bn1", "layer1")}
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(DamagedFile, match=r"whole: conv1, bn1, layer1; not at all: layer2, layer3") as told:
        adopt_small(tmp_path, tmp_path / "half.pth")
    count = sum(not n.endswith("num_batches_tracked") for n in state)
    assert f"{count} of its" in str(told.value)


def test_weights_of_a_deeper_network_are_not_taken_for_those_of_this_one(tmp_path: Path):
    torch.save(build("resnet32", 4, 32).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DamagedFile, match="the file has besides"):
        adopt_small(tmp_path, tmp_path / "w.pth")


def test_classes_that_are_not_the_outputs_are_told(tmp_path: Path):
    torch.save(build("resnet20", 6, 32).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DamagedFile, match="answer for 6 classes, and 4 are named"):
        adopt_small(tmp_path, tmp_path / "w.pth")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path):
    state = small().state_dict()
    state["conv1.weight"][0] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(DamagedFile, match="infinite or no numbers"):
        adopt_small(tmp_path, tmp_path / "w.pth")


class Code:
    """What runs when a careless loader reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(tmp_path: Path):
    torch.save({"state_dict": small().state_dict(), "extra": Code(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(DamagedFile, match=r"mkdir.*would be to run code.*torch\.save\(network\.state_dict"):
        adopt_small(tmp_path, tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_network_is_refused_with_the_way_out(tmp_path: Path):
    torch.save(small(), tmp_path / "w.pth")
    with pytest.raises(DamagedFile, match="would be to run code"):
        adopt_small(tmp_path, tmp_path / "w.pth")


def damaged(kind: str, path: Path) -> None:
    torch.save(small().state_dict(), path)
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps({"weight": [1, 2, 3]}))
    elif kind == "script":
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "stretched":  # a few bytes that say they are 4 TB
        torch.save({"weight": torch.zeros(1).expand(1_000_000, 1_000_000)}, path)
    elif kind == "nothing":
        torch.save({"epoch": 3}, path)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", ["truncated", "plain pickle", "script", "empty", "stretched", "nothing"])
def test_what_is_no_state_dict_is_refused_in_a_sentence(tmp_path: Path, kind: str):
    damaged(kind, tmp_path / "w.pth")
    with pytest.raises(DamagedFile):
        adopt_small(tmp_path, tmp_path / "w.pth")


def test_compressed_weights_are_unpacked_first(tmp_path: Path):
    torch.save(small().state_dict(), tmp_path / "w.pth")
    (tmp_path / "w.pth.gz").write_bytes(gzip.compress((tmp_path / "w.pth").read_bytes()))
    with pytest.raises(DamagedFile, match="unpack it first"):
        adopt_small(tmp_path, tmp_path / "w.pth.gz")
    (tmp_path / "again.pth").write_bytes(gzip.decompress((tmp_path / "w.pth.gz").read_bytes()))
    adopt_small(tmp_path, tmp_path / "again.pth")


def test_a_pickle_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.save({"args": __import__("argparse").Namespace(lr=1), "model": small().state_dict()}, tmp_path / "w.pth")
    first = read_weight_groups(tmp_path / "w.pth")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("converted again"))
    again = read_weight_groups(tmp_path / "w.pth")
    assert first.keys() == again.keys() == {"model"}


# ------------------------------------------------------------------------------------------- classes and images


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.txt", "cat\r\ndog\r\n"),
        ("a.txt", "\ufeffcat\ndog\n\n"),
        ("a.json", '["cat", "dog"]'),
        ("a.json", '{"0": "cat", "1": "dog"}'),
        ("a.json", '{"cat": 0, "dog": 1}'),
        ("config.json", '{"id2label": {"1": "dog", "0": "cat"}, "hidden_size": 3}'),
        ("index.json", '{"0": ["n01", "cat"], "1": ["n02", "dog"]}'),
    ],
)
def test_class_names_are_read_as_people_keep_them(tmp_path: Path, file: str, content: str):
    (tmp_path / file).write_text(content, encoding="utf-8", newline="")
    assert read_classes(str(tmp_path / file)) == (("cat", "dog"), ())


def test_a_list_of_yolos_has_its_names_read_and_no_other_yaml_has(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("train: images\nnc: 2\nnames: [cat, dog]\n", encoding="utf-8")
    assert read_classes(str(tmp_path / "data.yaml")) == (("cat", "dog"), ())
    (tmp_path / "data.yaml").write_text("names:\n  0: cat\n  2: dog\n", encoding="utf-8")
    with pytest.raises(DataError, match="names 2 classes, and their numbers are not 0 to 1"):
        read_classes(str(tmp_path / "data.yaml"))
    (tmp_path / "data.yaml").write_text("nc: 2\n", encoding="utf-8")
    with pytest.raises(DataError, match="it has no `names`"):
        read_classes(str(tmp_path / "data.yaml"))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("0 cat\n1 dog\n", ("cat", "dog")),
        ("0: cat\n1: big dog\n", ("cat", "big dog")),
        ("0 stars\n1 star\n2 stars\n", ("0 stars", "1 star", "2 stars")),
        ("1 cat\n2 dog\n", ("1 cat", "2 dog")),
    ],
)
def test_numbers_before_names_are_taken_off_where_they_count_the_lines(tmp_path: Path, content: str, wanted: tuple):
    (tmp_path / "labels.txt").write_text(content, encoding="utf-8")
    assert read_classes(str(tmp_path / "labels.txt"))[0] == wanted


def test_class_names_are_those_of_a_dataset_or_a_folder(tmp_path: Path):
    from PIL import Image

    assert read_classes("digits")[0][3] == "3"
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    assert read_classes(str(tmp_path)) == (("a", "b"), ())


def test_names_that_stand_twice_get_their_numbers(tmp_path: Path):
    """ImageNet has two classes named crane: the bird and the machine."""
    path = tmp_path / "classes.txt"
    path.write_text("crane\nhen\ncrane\n", encoding="utf-8")
    names, (note,) = read_classes(str(path))
    assert names == ("crane (0)", "hen", "crane (2)")
    assert note.endswith("told apart by their numbers: 'crane (0)', 'crane (2)'.")
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    found = convscope.adopt(
        network, classes=["crane", "hen", "crane"], preprocess=convscope.Preprocess(size=8, **USUAL)
    )
    assert found.classifier.class_names == names
    assert any("'crane (0)', 'crane (2)'" in one for one in found.summary["notes"])


@pytest.mark.parametrize(
    "content", ["crane\ncrane\ncrane (0)\n", "cat\n\ndog\n", "cat\n", "", '{"0": "a", "2": "b"}', '{"a": {}}']
)
def test_names_that_name_nothing_or_two_things_are_refused(tmp_path: Path, content: str):
    path = tmp_path / ("a.json" if content.startswith("{") else "a.txt")
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError):
        read_classes(str(path))


HF = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2], "resample": 3}


def resized(image: np.ndarray, box: dict) -> np.ndarray:
    """What a Hugging Face processor with these steps makes of an image, step by step and plainly."""
    from PIL import Image

    pil = Image.fromarray(image)
    how = Image.Resampling.BICUBIC if box.get("resample") == 3 else Image.Resampling.BILINEAR
    size = box["size"]
    if isinstance(size, int):
        whole = "ViT" in box.get("feature_extractor_type", "")
        size = {"height": size, "width": size} if whole else {"shortest_edge": size}
    if "shortest_edge" in size:
        scale = size["shortest_edge"] / min(pil.size)
        pil = pil.resize((round(pil.width * scale), round(pil.height * scale)), how)
    else:
        pil = pil.resize((size["width"], size["height"]), how)
    if box.get("do_center_crop"):
        side = box["crop_size"] if isinstance(box["crop_size"], int) else box["crop_size"]["height"]
        left, top = (pil.width - side) // 2, (pil.height - side) // 2
        pil = pil.crop((left, top, left + side, top + side))
    x = np.asarray(pil, np.float64) * box.get("rescale_factor", 1 / 255) - (1 if box.get("rescale_offset") else 0)
    return (x - box["image_mean"]) / box["image_std"]


@pytest.mark.parametrize(
    "more",
    [
        {"size": {"height": 32, "width": 32}},
        {"size": 32, "feature_extractor_type": "ViTFeatureExtractor"},
        {"size": 64, "do_center_crop": True, "crop_size": 56, "image_processor_type": "CLIPImageProcessor"},
        {"size": 64, "do_center_crop": True, "crop_size": 56},
        {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 56, "width": 56}},
        {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5, "rescale_offset": True},
        {"size": {"height": 32, "width": 32}, "resample": 2},
    ],
)
def test_a_hugging_face_processor_is_followed(tmp_path: Path, more: dict):
    box = {**HF, **more}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(box), encoding="utf-8")
    preprocess = read_preprocess(tmp_path / "preprocessor_config.json")
    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    image = np.stack([across, down, np.full((64, 96), 90)], 2).astype(np.uint8)
    fitted = preprocess.fit_array(__import__("PIL.Image").Image.fromarray(image))
    pixels = torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)[None]
    found = preprocess.normalise(pixels)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - resized(image, box)).mean() < 0.03  # a rounding of one grey value is 0.02


@pytest.mark.parametrize(
    "box",
    [
        {"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16000},
        {"tokenizer_class": "BertTokenizer"},
        {**HF, "size": {"height": 32, "width": 64}},
        {**HF, "size": {"shortest_edge": 32}, "do_flip_channel_order": True},
        {**HF, "size": {"longest_edge": 32}},
        {**HF, "size": {"height": 32, "width": 32}, "image_mean": [0.5]},
        ["a list"],
    ],
)
def test_a_preprocessor_of_another_kind_is_refused_in_a_sentence(tmp_path: Path, box: object):
    (tmp_path / "p.json").write_text(json.dumps(box), encoding="utf-8")
    with pytest.raises(DataError):
        read_preprocess(tmp_path / "p.json")


def test_timms_own_config_gives_the_same_as_its_name(tmp_path: Path):
    timm = pytest.importorskip("timm")
    config = timm.get_pretrained_cfg("resnet18.a1_in1k").to_dict()
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": config}))
    from convscope.models.library_preprocess import library_preprocess

    assert read_preprocess(tmp_path / "config.json") == convscope.Preprocess(**library_preprocess("timm:resnet18"))


def test_nobody_knowing_how_images_are_taken_is_said(tmp_path: Path):
    torch.save(small().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="`input_size`, `std`"):
        convscope.adopt("resnet20", weights=tmp_path / "w.pth", classes=names(tmp_path, 4), mean=(0.5, 0.5, 0.5))


# --------------------------------------------------------------------------------------------- an adopted run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network of digits, trained by a loop of nobody's, and adopted."""
    place = tmp_path_factory.mktemp("adopted")
    network = shaken(build("resnet20", 10, 32))
    torch.save({"model": network.state_dict()}, place / "w.pth")
    adopted = convscope.adopt(
        "resnet20", weights=place / "w.pth", classes="digits", input_size=32, name="mine", runs=place, **USUAL
    )
    return str(adopted.folder)


def test_every_command_works_on_an_adopted_run(run: str, tmp_path: Path):
    _, part = convscope.load_dataset("digits", image_size=32), "test"
    found = convscope.evaluate(run, "digits", limit=40, part=part)
    assert found.summary["n"] == 40
    image, _ = convscope.save_example(convscope.load_dataset("digits", image_size=32), tmp_path)
    assert convscope.predict(run, image)[0].label in "0123456789"
    assert convscope.export(run, output=tmp_path / "out", format="safetensors").summary["classes"] == 10
    assert len(convscope.similar(run, image, "digits").summary["nearest"]) > 0
    assert convscope.diagnose(run, "digits", images=2).summary["name"] == "mine"
    explained = convscope.explain(run, "digits", layer="conv1", filter=0, limit=40)
    assert explained.folder.is_relative_to(Path(run))


def test_an_image_is_explained_without_data_but_for_what_is_like_it(run: str, tmp_path: Path, capsys):
    image, _ = convscope.save_example(convscope.load_dataset("digits", image_size=32), tmp_path)
    assert cli.run(["explain", run, "--image", str(image)]) == 0
    said = "".join(capsys.readouterr())
    assert "what it was trained on is not known here: name DATA too" in said
    found = convscope.explain_image(run, image)
    assert found.summary["nearest"] == []
    assert "grad-cam" in found.summary["methods"]
    assert {path.name for path in found.folder.glob("*.png")} == {"evidence.png", "looks.png", "maps.png"}
    assert len(convscope.explain_image(run, image, "digits").summary["nearest"]) == 8
    assert cli.run(["explain", run, "digits", "--image", str(image)]) == 0
    assert "nearest images: " in capsys.readouterr().out


def adopt_own(place: Path, name: str) -> list[str]:
    """The command that adopts the network of this name in OWN, which has weights of its own."""
    (place / "own.py").write_text(OWN, encoding="utf-8")
    layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    torch.save(nn.Sequential(*layers).state_dict(), place / f"{name}.pth")
    images = "--classes digits --input-size 8 --mean .5 .5 .5 --std .2 .2 .2".split()
    where = ["--weights", f"{place / name}.pth", "--name", name, "--runs", str(place)]
    return ["adopt", f"{place / 'own.py'}:{name}", *images, *where]


def test_a_network_from_elsewhere_is_not_told_that_labels_are_noise(tmp_path: Path):
    """Its training was on other images, of which nothing is known."""
    assert cli.run(adopt_own(tmp_path, "one")) == 0
    found = convscope.diagnose(str(tmp_path / "one"), "digits", model=f"{tmp_path / 'own.py'}:one", images=2)
    assert found.summary["fault"] == "unsuited"
    assert "it was trained elsewhere, and of the images given here it is right on" in found.sentence()
    assert not [row for row in found.summary["findings"] if row["fault"] == "labels"]


def test_what_comes_next_is_a_command_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("one", "two"):
        assert cli.run(adopt_own(tmp_path, name)) == 0
        following = capsys.readouterr().out.partition("next: ")[2].replace("DATA", "digits")
        assert cli.run(["report", name, "--runs", str(tmp_path)]) == 0
        noted = "".join(capsys.readouterr()).partition("yet: ")[2].partition(" does it")[0].replace("DATA", "digits")
        for said in (following, noted):
            assert cli.run([*shlex.split(said)[1:], "--limit", "30"]) == 0
        images: dict = {"classes": "digits", "input_size": 8, "mean": (0.5,) * 3, "std": (0.2,) * 3}
        where: dict = {"weights": tmp_path / f"{name}.pth", "name": f"{name}-again", "runs": tmp_path}
        made = convscope.adopt(f"{tmp_path / 'own.py'}:{name}", **images, **where)
        assert convscope.report(made).folder == made.folder
        assert convscope.evaluate(made, "digits", limit=30, runs=tmp_path).folder.is_relative_to(made.folder)
        capsys.readouterr()
    both = ["compare", "one", "two", "--data", "digits", "--limit", "30", "--runs", str(tmp_path)]
    assert cli.run(both) == 2
    assert cli.run([*both, "--model", str(tmp_path / "own.py")]) == 0  # each run's own function in it


OWN = """
from torch import nn

def one():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

def two():
    return one()
"""


def test_options_of_named_networks_are_refused_of_one_in_memory():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    usual: dict = {"classes": ["a", "b"], "preprocess": convscope.Preprocess(size=8, **USUAL)}
    for more in ({"mean": (0.1, 0.1, 0.1)}, {"input_size": 64}, {"width": 9}, {"fit": "pad"}):
        (name,) = more
        with pytest.raises(UsageError, match=f"`{name}` is for a network that is named: one in memory stays as it is"):
            convscope.adopt(network, **usual, **more)


def test_a_network_of_one_channel_or_of_several_outputs_is_told_what_to_be(tmp_path: Path):
    usual: dict = {"classes": ["a", "b"], "preprocess": convscope.Preprocess(size=8, **USUAL)}
    gray = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    large = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.Conv2d(8, 8, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UsageError, match=r"cannot take images of 8 pixels: .*Kernel size can't be greater"):
        convscope.adopt(large, **usual)
    with pytest.raises(UsageError, match="takes images of 1 channel, and here they have three"):
        convscope.adopt(gray, **usual)

    class Two(nn.Module):
        def forward(self, x):
            return {"logits": x.mean((2, 3))[:, :2]}

    with pytest.raises(UsageError, match="and outputs a dict: let its forward return the logits in it"):
        convscope.adopt(Two(), **usual)


def test_a_mean_of_pixels_up_to_255_is_refused_with_the_right_one(tmp_path: Path):
    torch.save(small().state_dict(), tmp_path / "w.pth")
    caffe = {"mean": (104, 117, 123), "std": (1, 1, 1)}
    said = r"`mean` 104 117 123 is .* 0 to 1: `mean` 0.408 0.459 0.482 `std` 0.00392 0.00392 0.00392"
    with pytest.raises(UsageError, match=said):
        adopt_small(tmp_path, tmp_path / "w.pth", **caffe)
    with pytest.raises(UsageError, match=said):
        adopt_small(tmp_path, tmp_path / "w.pth", preprocess=convscope.Preprocess(32), **caffe)


def test_a_librarys_preprocess_is_told_with_all_that_is_taken_otherwise(tmp_path: Path):
    network = build("torchvision:resnet18", 4, 64)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    usual: dict = {"weights": tmp_path / "w.pth", "classes": names(tmp_path, 4), "runs": tmp_path}
    (plain,) = convscope.adopt("torchvision:resnet18", **usual).notes
    assert "take them (224 pixels, crop, centre 0.875, bilinear, mean" in plain
    (other,) = convscope.adopt("torchvision:resnet18", input_size=64, **usual).notes
    assert (
        "take them, but for --input-size, the whole image, and not its middle alone (64 pixels, crop, centre 1, "
        in other
    )


def test_the_size_of_a_transformers_images_is_told_by_its_positions(tmp_path: Path):
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=4)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    usual: dict = {"weights": tmp_path / "w.pth", "classes": names(tmp_path, 4), "runs": tmp_path}
    with pytest.raises(DamagedFile, match="for images of 64 pixels, by the positions that they know: `input_size` 64"):
        convscope.adopt("timm:vit_tiny_patch16_224", **usual)
    assert convscope.adopt("timm:vit_tiny_patch16_224", input_size=64, **usual).summary["image_size"] == 64


def test_without_data_an_adopted_run_asks_for_it(run: str):
    with pytest.raises(UsageError, match="does not say what it was trained on"):
        convscope.evaluate(run)


def test_an_adopted_run_cannot_be_gone_on_with(run: str):
    place = Path(run)
    with pytest.raises(UsageError, match="trained elsewhere"):
        convscope.train("digits", name=place.name, runs=place.parent, resume=True)
    with pytest.raises(ConvscopeError, match="mine"):
        convscope.train("digits", name=place.name, runs=place.parent)


def test_a_name_that_is_taken_is_not_written_over(run: str, tmp_path: Path):
    torch.save(small().state_dict(), tmp_path / "w.pth")
    with pytest.raises(LockedError, match="exists already"):
        adopt_small(tmp_path, tmp_path / "w.pth", name=Path(run).name, runs=Path(run).parent)


def test_a_network_in_memory_is_taken_as_it_is(tmp_path: Path):
    network = shaken(PlainNet(1, 10))
    preprocess = convscope.Preprocess(size=32, **USUAL)
    adopted = convscope.adopt(network, classes=[str(i) for i in range(10)], preprocess=preprocess)
    assert adopted.run is None
    found = convscope.evaluate(adopted.classifier, "digits", part="test", limit=30)
    assert found.summary["n"] == 30
    image, _ = convscope.save_example(convscope.load_dataset("digits", image_size=32), tmp_path)
    with torch.no_grad():
        pixels = torch.from_numpy(preprocess.fit_image(image).copy()).permute(2, 0, 1)[None]
        wanted = torch.softmax(network(preprocess.normalise(pixels)), 1).max().item()
    assert convscope.predict(adopted.classifier, image)[0].probability == pytest.approx(wanted, abs=1e-6)
    assert convscope.explain(adopted.classifier, "digits", layer="first", filter=0, limit=30).folder.exists()
    assert convscope.export(adopted.classifier, output=tmp_path / "out").summary["classes"] == 10
    assert adopted.summary["notes"] == []
    assert convscope.predict(adopted, image)[0].probability == pytest.approx(wanted, abs=1e-6)
    named = convscope.adopt(network, classes=[str(i) for i in range(10)], preprocess=preprocess, name="plain")
    assert convscope.explain(named, "digits", layer="first", filter=0, limit=30).folder.parts[-6:-3] == (
        "plain",
        "explain",
        "digits",
    )
    soft = convscope.adopt(nn.Sequential(network, nn.Softmax(1)), classes=list("0123456789"), preprocess=preprocess)
    assert "are probabilities that add up to 1, as of a softmax, and are taken for logits here" in soft.notes[0]
    with pytest.raises(UsageError, match=r"must output \(1, 3\) logits .* 3 classes, and outputs \(1, 10\)"):
        convscope.adopt(network, classes=["a", "b", "c"], preprocess=preprocess)


@pytest.mark.parametrize(
    ("asked", "found"),
    [(2, "bilinear"), (3, "bicubic"), ("bicubic", "bicubic"), (None, "bilinear")],
)
def test_resampling_is_read_by_number_and_by_name(asked: object, found: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(HF | {"size": {"height": 32, "width": 32}, "resample": asked}))
    assert read_preprocess(path).interpolation == found
    timm = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.2] * 3}
    path.write_text(json.dumps(timm))
    assert read_preprocess(path).interpolation == "bicubic"
    path.write_text(json.dumps(timm | {"interpolation": found}))
    assert read_preprocess(path).interpolation == found


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (0, "nearest"), (1, "lanczos"), (4, "box"), (5, "hamming"), (9, "9"), (-1, "-1"), ("lanczos", '"lanczos"'),
        ("random", '"random"'), ([3], r"\[3\]"), (3.5, "3.5"),
    ],
)  # fmt: skip
def test_another_resampling_is_named(asked: object, named: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for box in (
        HF | {"size": {"height": 32, "width": 32}, "resample": asked},
        {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.2] * 3, "interpolation": asked},
    ):
        path.write_text(json.dumps(box))
        with pytest.raises(
            DataError, match=f"asks for {named} resampling, and images are resized by bilinear or bicubic"
        ):
            read_preprocess(path)


def test_a_network_in_memory_is_loaded_again_by_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(OWN, encoding="utf-8")
    place: dict = {}
    exec(OWN, place)
    usual: dict = {"classes": list("abcdefghij"), "preprocess": convscope.Preprocess(size=8, **USUAL)}
    made = convscope.adopt(place["one"](), **usual).classifier
    made.save(tmp_path / "made.safetensors")
    with pytest.raises(UsageError, match="the weights of Sequential, which was handed over in memory: name the code"):
        convscope.Classifier.load(tmp_path / "made.safetensors")
    again = convscope.Classifier.load(tmp_path / "made.safetensors", model="net.py:one")
    for name, weight in made.network.state_dict().items():
        assert torch.equal(weight, again.network.state_dict()[name])
