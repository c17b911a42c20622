"""What is said where a network is looked at, exported, searched or transferred, followed: it then works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope
import toyclaim
from convscope import locks
from convscope.classifying import intervals, metrics
from convscope.classifying.classifier import Classifier
from convscope.datasets.dataset import Dataset
from convscope.datasets.named_before import remember
from convscope.diagnosis.chain import find_chain, logits_of
from convscope.errors import ConvscopeError
from convscope.explanation import attribution
from convscope.exporting import formats
from convscope.feature_store import engines
from convscope.feature_store.engines import FeatureRequest
from convscope.models.registry import build
from convscope.studies import judging
from convscope.studies.registry import CLAIMS
from convscope.studies.running import _without_data
from convscope.transfer_learning.head import train_head
from convscope.transfer_learning.learning_curve import measure_curve
from following import TINY, ask, command, option, options_of, photos, refused, works

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, and run r of them, which no test changes."""
    folder = tmp_path_factory.mktemp("home")
    photos(folder / "photos")
    works("train", folder / "photos", *TINY, "--name", "r", "--runs", folder / "runs")
    return folder


@pytest.fixture(autouse=True)
def _named_before(home: Path) -> None:
    """The photos were named on this machine, whose cache each test has of its own."""
    remember(home / "photos")


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photos and run r of them."""
    shutil.copytree(home / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVSCOPE_RUNS", str(tmp_path / "runs"))
    (tmp_path / "photos").symlink_to(home / "photos")
    return tmp_path


# --------------------------------------------------------------------------------------------- numbers that must be

LEAST = [
    (["diagnose", "r", "photos", "--images", "0"], "must be (1) or more"),
    (["predict", "r", "photos/ant", "--top", "0"], "must be (1) or more"),
    (["explain", "r", "photos", "--layer", "conv1", "--seeds", "0", "--ablate", "0", "--count", "0"], "be (1) or more"),
    (["explain", "r", "photos", "--layer", "conv1", "--ablate", "0", "--seeds", "-1"], "must be (0) or more"),
    (["explain", "r", "photos", "--layer", "conv1", "--seeds", "0", "--ablate", "-1"], "must be (0) or more"),
    (["explain", "r", "photos", "--layer", "conv1", "--seeds", "0", "--ablate", "0", "--seed", "-1"], "be (0) or more"),
    (["similar", "r", "photos/ant/0-0.png", "photos", "--engine", "torch", "--count", "0"], "must be (1) or more"),
]


@pytest.mark.parametrize(
    ("words", "least"), LEAST, ids=lambda value: value[0] + value[-2] if isinstance(value, list) else ""
)
def test_the_least_that_is_named_does(words: list[str], least: str, here: Path) -> None:
    (value,) = re.findall(least, refused(*words))
    works(*words[:-1], value)


def test_no_copies_are_none(here: Path) -> None:
    words = ["features", "photos", "--image-size", "32", "--engine", "torch", "--augment"]
    (none,) = re.findall(r"; (\d) is none", refused(*words, "-1"))
    works(*words, none)


@pytest.mark.parametrize("wrong", ["0", "-1"])
def test_minutes_that_are_above_nothing_do(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLAIMS, "toy", toyclaim.CLAIM)
    assert "must be above 0" in refused("study", "toy", "--minutes", wrong)
    works("study", "toy", "--minutes", "1e-9")  # no training is begun in them
    assert "give minutes" in refused("transfer", "digits", "--budget", wrong)


# -------------------------------------------------------------------------------------------- what a run is asked of


def test_data_that_changed_are_named_to_evaluate_on_them(here: Path, home: Path) -> None:
    shutil.copytree(home / "photos", here / "own")
    works("train", "own", *TINY, "--name", "s")
    photos(here / "own", each=1, seed=7)
    assert "Name it to evaluate" in refused("evaluate", "s")
    works("evaluate", "s", "own")


def test_classes_that_are_new_are_trained_and_then_evaluated(here: Path, home: Path) -> None:
    shutil.copytree(home / "photos", here / "own")
    works("train", "own", *TINY, "--name", "s")
    photos(here / "own", classes="cat", seed=7)
    assert refused("evaluate", "s").endswith("Train again: it does not know all classes.")
    works("train", "own", *TINY, "--name", "t")
    works("evaluate", "t")


@pytest.mark.parametrize("word", ["--count 3", "--filter 2", "--least", "--from-exemplar", "--seed 1", "--limit 9"])
def test_options_of_the_other_kind_of_explanation_are_left_out(word: str, here: Path) -> None:
    asked = ["explain", "r", "photos", "--image", "photos/ant/0-0.png"]
    option = word.split()[0]
    assert refused(*asked, *word.split()) == f"{option} is for cards, and --image takes one answer apart."
    if word == "--least":
        works(*asked)
    for words in (["--method", "cam"], ["--target", "ant"], ["--sanity"]):
        assert (
            refused("explain", "r", "photos", *words) == f"{words[0]} is for one answer: name its image with --image."
        )


def test_some_images_of_a_part_do_not_take_the_place_of_all(here: Path) -> None:
    works("evaluate", "r", "photos", "--part", "all")
    works("evaluate", "r", "photos", "--part", "all", "--limit", "5")
    found = {path.name for path in (here / "runs" / "r" / "evaluate").iterdir()}
    assert found == {"photos-all", "photos-all-5-images"}
    for asked in (["evaluate", "r"], ["evaluate", "r", "--part", "val"], ["localize", "r", "photos"]):
        assert refused(*asked, "--limit", "-4") == "a limit is a number of images from 1, not -4."
        assert refused(*asked, "--limit", "0") == "a limit is a number of images from 1, not 0."


def test_views_that_leave_mirrors_out_are_those_that_are_scored(here: Path) -> None:
    said = works("evaluate", "r", "photos", "--views", "flip-shift")
    assert re.search(r"--views flip-shift leaves them out", said.err)
    assert "with test-time views (shift)" in said.out


@pytest.mark.parametrize("asked", ["evaluate r photos", "explain r photos --layer conv1 --seeds 0 --ablate 0"])
def test_a_run_is_asked_without_weights(asked: str, here: Path) -> None:
    sentence = refused(*asked.split(), "--weights", "w.safetensors")
    assert "has weights of its own" in sentence
    works(*asked.split())


NAMELESS = {
    "evaluate": ["evaluate", "c/classifier.safetensors"],
    "explain": ["explain", "plain20", "--layer", "conv1", "--seeds", "0", "--ablate", "0"],
    "diagnose": ["diagnose", "plain20", "--images", "1"],
    "similar": ["similar", "c/classifier.safetensors", "photos/ant/0-0.png", "--engine", "torch"],
}


@pytest.mark.parametrize("name", NAMELESS)
def test_where_nothing_says_what_it_was_trained_on_data_are_named(name: str, here: Path) -> None:
    (here / "c").mkdir()
    classifier = Classifier.load(here / "runs" / "r" / "classifier.safetensors")
    Classifier(classifier.network, classifier.class_names, classifier.preprocess, classifier.architecture, {}).save(
        here / "c" / "classifier.safetensors"
    )
    sentence = refused(*NAMELESS[name])
    assert re.search(r"name (a dataset to \w+ it on|the data to search)", sentence)
    works(*NAMELESS[name], "photos")


@pytest.mark.slow
def test_random_weights_are_those_of_a_run_or_a_file_instead(here: Path) -> None:
    words = ["diagnose", "resnet20", "photos", "--images", "1"]
    note = next(line for line in works(*words).err.splitlines() if "are random" in line)
    assert "give a run, or a file with --weights" in note
    assert "random" not in works("diagnose", "r", "--images", "1").err
    from safetensors.torch import save_file

    save_file(build("resnet20", 2, 64, seed=1).state_dict(), here / "w.safetensors")
    assert "random" not in works(*words, *option(note, "weights")[:1], "w.safetensors").err


def test_data_of_other_classes_are_left_for_those_it_was_trained_on(here: Path) -> None:
    assert "name the data it was trained on" in refused("diagnose", "r", "shapes")
    works("diagnose", "r", "photos", "--images", "1")


def test_a_watched_training_shows_its_updates(here: Path) -> None:
    note = next(line for line in works("diagnose", "r", "--images", "1").err.splitlines() if "--watch" in line)
    works(*re.findall(r"with (train) ", note), "photos", *TINY, *option(note, "watch")[:1], "--name", "w")
    said = works("diagnose", "w", "--images", "1", "--json")
    assert "--watch" not in said.err
    assert json.loads(said.out)["watched"]["steps"]


def test_a_channel_is_named_as_the_example_is(here: Path) -> None:
    sentence = refused("diagnose", "r", "--images", "1", "--norm", "bn1:x")
    works("diagnose", "r", "--images", "1", "--norm", re.findall(r"such as (\S+)\.$", sentence)[0])


# --------------------------------------------------------------------------------------------- networks of one's own


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


class Whole(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).argmax(1)


class Named(Pair):
    def forward(self, x: Tensor, size: int) -> Tensor:
        return self.body(x)[:, :size]


class Logits(nn.Module):
    """As is said: its forward takes images and returns logits."""

    def __init__(self, network: nn.Module, unused: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.unused = network, unused

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x, 2) if isinstance(self.network, Named) else self.network.body(x)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Whole(), "its forward must return logits"),
        (Named(), "Wrap it in a module whose forward takes images and returns"),
    ],
)
def test_a_network_whose_forward_gives_logits_is_followed(network: nn.Module, words: str) -> None:
    images = torch.randn(2, 3, 8, 8)
    with pytest.raises(ConvscopeError, match=words):
        logits_of(network, images)
    assert len(find_chain(Logits(network), images)) > 1


def test_modules_named_in_their_order_are_a_chain() -> None:
    images, network = torch.randn(2, 3, 8, 8), Pair().body
    with pytest.raises(ConvscopeError, match="name modules in their order") as caught:
        find_chain(network, images, ["2", "0"])
    second, first = re.findall(r"'(\w)'", str(caught.value))
    assert [f.name for f in find_chain(network, images, [second, first])][:2] == ["0", "2"]


def lone(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *layers)


POOLED = lone(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
FLAT = lone(nn.Flatten(), nn.Linear(4 * 36, 2))
IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_other_methods_do_where_cam_does_not() -> None:
    with pytest.raises(ConvscopeError) as caught:
        attribution.cam(FLAT, IMAGE, 0)
    (text,) = re.findall(r"one place left to pool\): (.*) work instead", str(caught.value))
    methods = re.findall(r"[\w-]+", text.replace(" and", ""))
    assert set(methods) == set(attribution.METHODS) - {"cam"}
    for method in methods:
        attribution.METHODS[method](FLAT, IMAGE, 0)
    attribution.cam(POOLED, IMAGE, 0)


ATTRIBUTED: dict[str, tuple[str, Callable[[], Any], Callable[[], Any]]] = {
    "steps": (
        "needs at least 1 step",
        lambda: attribution.integrated_gradients(POOLED, IMAGE, 0, steps=0),
        lambda: attribution.integrated_gradients(POOLED, IMAGE, 0, steps=1),
    ),
    "baseline": (
        "needs a baseline of the image's shape",
        lambda: attribution.integrated_gradients(POOLED, IMAGE, 0, baseline_1CHW=IMAGE[:, :1]),
        lambda: attribution.integrated_gradients(POOLED, IMAGE, 0, baseline_1CHW=0 * IMAGE),
    ),
    "one image": (
        "needs one image (1, C, H, W) of floating-point numbers",
        lambda: attribution.grad_cam(POOLED, IMAGE[0], 0),
        lambda: attribution.grad_cam(POOLED, IMAGE[0][None], 0),
    ),
    "logits": (
        "needs a network that outputs (B, K) logits",
        lambda: attribution.grad_cam(POOLED[:2], IMAGE, 0),
        lambda: attribution.grad_cam(POOLED, IMAGE, 0),
    ),
    "square": (
        "needs 1 <= stride <= side <= the image's shorter side",
        lambda: attribution.occlusion(POOLED, IMAGE, 0, side=9, stride=9),
        lambda: attribution.occlusion(POOLED, IMAGE, 0, side=8, stride=8),
    ),
    "layer that is called": (
        "needs a layer that outputs a tensor",
        lambda: attribution.grad_cam(Logits(Pair(), unused=nn.Conv2d(3, 4, 3)), IMAGE, 0, layer="unused"),
        lambda: attribution.grad_cam(POOLED, IMAGE, 0, layer="0"),
    ),
    "layer of maps": (
        "needs a layer that outputs (1, C, h, w)",
        lambda: attribution.grad_cam(POOLED, IMAGE, 0, layer="3"),
        lambda: attribution.grad_cam(POOLED, IMAGE, 0, layer="1"),
    ),
    "no convolution": (
        "name the layer to look at",
        lambda: attribution.grad_cam(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 2)), IMAGE, 0),
        lambda: attribution.grad_cam(
            nn.Sequential(nn.Identity(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 2)), IMAGE.clone(), 0, layer="1"
        ),
    ),
}


@pytest.mark.parametrize("case", ATTRIBUTED)
def test_what_an_explanation_needs_is_given_to_it(case: str) -> None:
    words, wrong, right = ATTRIBUTED[case]
    with pytest.raises(ConvscopeError, match=re.escape(words)):
        wrong()
    right()


def test_a_layer_that_works_is_taken(here: Path) -> None:
    words = ["explain", "r", "photos", "--seeds", "0", "--ablate", "0", "--layer"]
    sentence = refused(*words, "fc") if "fc" in _modules(here) else refused(*words, _modules(here)[-1])
    (first, *_) = re.findall(r"Layers that work: ([\w.]+)", sentence)
    works(*words, first)


def _modules(here: Path) -> list[str]:
    network = Classifier.load(here / "runs" / "r" / "classifier.safetensors").network
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]


def test_two_images_can_be_explained(tmp_path: Path, here: Path) -> None:
    one = photos(tmp_path / "one", "ant", each=1)
    words = ["explain", "r", one, "--layer", "conv1", "--seeds", "0", "--ablate", "0"]
    assert "explaining needs some" in refused(*words)
    photos(one, "ant", each=3, seed=1)
    works(*words)


# ------------------------------------------------------------------------------------------ figures and their numbers


LABELS = torch.arange(8) % 2


def test_what_figures_need_is_given_to_them() -> None:
    with pytest.raises(ConvscopeError, match="needs the same images for both"):
        intervals.paired_test(np.ones(3, bool), np.ones(4, bool))
    intervals.paired_test(np.ones(4, bool), np.ones(4, bool))
    shares, whole = torch.full((4, 2), 0.5), torch.tensor([0, 1, 0, 1])
    logits = torch.randn(4, 2)
    with pytest.raises(ConvscopeError, match="measure on images that are not mixed"):
        metrics.cross_entropy(logits, shares)
    metrics.cross_entropy(logits, whole)
    with pytest.raises(ConvscopeError, match="needs at least one value, and finite ones"):
        judging.over_seeds([])
    judging.over_seeds([0.5])
    with pytest.raises(ConvscopeError, match=r"needs finite values \(S, N\)"):
        judging.over_seeds_and_images(np.ones(4))
    judging.over_seeds_and_images(np.ones((2, 4)))
    with pytest.raises(ConvscopeError, match="a head needs two images"):
        train_head(torch.randn(1, 4), LABELS[:1], 2, np.arange(1, dtype=np.uint64))
    train_head(torch.randn(8, 4), LABELS, 2, np.arange(8, dtype=np.uint64))


def test_seven_images_a_class_have_a_learning_curve() -> None:
    def measured(each: int) -> object:
        keys = np.arange(2 * each, dtype=np.uint64)
        return measure_curve(np.repeat([0, 1], each), keys, lambda a, b: np.ones(len(b), bool))

    with pytest.raises(ConvscopeError) as caught:
        measured(3)
    measured(int(re.findall(r"needs (\d+)", str(caught.value))[0]))


# ------------------------------------------------------------------------------------------------- exports, engines


def test_safetensors_keeps_what_onnx_cannot(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("an operation that is not known.")

    pytest.importorskip("onnxscript")
    monkeypatch.setattr("torch.onnx.export", refuse)
    sentence = refused("export", "r", "--format", "onnx")
    works("export", "r", *option(sentence, "format"))


def test_or_the_engine_torch_where_features_are_wanted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`features` has no --format: there the engine is another."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("an operation that is not known.")

    pytest.importorskip("onnxscript")
    monkeypatch.setattr("torch.onnx.export", refuse)
    words = ["features", "photos", "--image-size", "32"]
    sentence = refused(*words, "--engine", "onnxruntime")
    works(*words, *option(sentence, "engine"))


@pytest.mark.parametrize("what", ["export", "features"])
def test_the_extra_that_is_named_holds_what_was_missing(what: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    found = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda n: None if n in formats.NEEDED else found(n))
        for name in formats.NEEDED:
            patch.setitem(sys.modules, name, None)  # an import of it fails, as of one that is not installed
        words = {
            "export": ["export", "r", "--format", "onnx"],
            "features": ["features", "photos", "--image-size", "32", "--engine", "onnxruntime"],
        }[what]
        sentence = refused(*words)
        if what == "features":
            works(*words[:-2], *option(sentence, "engine"))
    package, extra = re.findall(r"pip install '(\w+)\[(\w+)\]'", sentence)[0]
    wanted = [r for r in importlib.metadata.requires(package) or [] if f'extra == "{extra}"' in r.replace("'", '"')]
    assert all(any(r.startswith(name) for r in wanted) for name in formats.NEEDED)


@pytest.mark.parametrize("way", ["the features", "the engine"])
def test_onnxruntime_or_a_layer_is_left_out(way: str, here: Path) -> None:
    words = ["features", "photos", "--image-size", "32"]
    sentence = refused(*words, "--engine", "onnxruntime", "--maps")
    assert "leave out --layer and --maps, or it" in sentence
    if way == "the engine":
        works(*words, "--maps")
    else:
        pytest.importorskip("onnxscript")
        engines.pick_engine("onnxruntime", FeatureRequest(), CPU)


def test_a_map_of_one_place_is_of_larger_images_or_none() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConvscopeError, match="take larger images, or no --maps"):
        engines.last_map(network, 8)
    larger = nn.Sequential(nn.Conv2d(3, 4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert engines.last_map(larger, 16) == "0"


@pytest.mark.slow
def test_another_engine_is_used_where_its_features_differ(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(engines, "TOLERANCE", -1.0)
    words = ["features", "photos", "--image-size", "32"]
    sentence = refused(*words, "--engine", "onnxruntime")
    works(*words, *option(sentence, "engine"))


def test_smaller_images_are_faster_and_less_accurate(tmp_path: Path) -> None:
    """Less work by the square of the side: counted, for clocks are not to be trusted in a test."""
    from convscope.models.layer_table import ledger

    root = photos(tmp_path / "photos", side=50)
    said = works("features", root, "--backbone", "lite0", "--engine", "torch")
    (note,) = [line for line in said.err.splitlines() + said.out.splitlines() if "--image-size" in line]
    name, size = option(note, "image-size")
    usual, network = 224, Classifier.pretrained("lite0").network
    assert int(size) < usual
    assert ledger(network, int(size)).multiply_adds < 0.5 * ledger(network, usual).multiply_adds
    works("features", root, "--backbone", "lite0", "--engine", "torch", name, size)


# --------------------------------------------------------------------------------------------------------- transfers


@pytest.fixture(scope="module")
def transferred(home: Path) -> tuple[Path, str]:
    """The runs of a transfer named t, and what it said."""
    said = works("transfer", home / "photos", *TRANSFER, "--name", "t", "--runs", home / "transfers")
    return home / "transfers", said.out


TRANSFER = ["--image-size", "32", "--engine", "torch", "--budget", "0.01"]


def test_a_transfers_next_steps_are_followed(transferred: tuple[Path, str], home: Path) -> None:
    last = transferred[1].strip().splitlines()[-1]
    first, then = [f"convscope {part}" for part in last.split("convscope ")[1:]]
    works(*command(first.rstrip("; ").replace("IMAGE", str(home / "photos" / "ant" / "0-0.png"))))
    assert "--filter" in then
    works(*command(then), "--seeds", "0")


@pytest.mark.slow
def test_the_name_of_a_transfer_is_not_taken_again(
    transferred: tuple[Path, str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by another nor by a training, which could not go on with it."""
    runs = ["--runs", transferred[0]]
    sentence = refused("transfer", home / "photos", *TRANSFER, "--name", "t", *runs)
    works("transfer", home / "photos", *TRANSFER, *option(sentence, "name")[:1], "other", *runs)
    sentence = refused("train", home / "photos", *TINY, "--name", "t", *runs)
    assert "--resume" not in sentence
    works("train", home / "photos", *TINY, *option(sentence, "name")[:1], "another", *runs)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["the same", "another name"])
def test_a_stopped_transfer_goes_on_or_is_left(
    way: str, transferred: tuple[Path, str], home: Path, tmp_path: Path
) -> None:
    shutil.copytree(transferred[0] / "t", tmp_path / "t")
    (tmp_path / "t" / "transfer" / "transfer.json").unlink()
    words = ["transfer", home / "photos", *TRANSFER[:-2], "--runs", tmp_path, "--budget"]
    sentence = refused(*words, "0.02", "--name", "t")
    assert "Ask for the same to go on with it" in sentence
    if way == "the same":
        (asked,) = re.findall(r"begun with budget (\S+) and", sentence)
        assert "goes on with run 't'" in "".join(works(*words, asked, "--name", "t")[1:])
    else:
        works(*words, "0.02", *option(sentence, "name")[:1], "u")


@pytest.mark.slow
def test_a_transfer_of_two_classes_and_a_few_images_is_made(tmp_path: Path) -> None:
    root = photos(tmp_path / "few", each=1)
    words = ["transfer", root, *TRANSFER]
    assert "needs two classes and a few images of each" in refused(*words)
    photos(root, each=6, seed=1)
    works(*words)


# --------------------------------------------------------------------------------- the program, the machine, a study


def test_the_options_that_save_memory_are_those_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError

    asked = {
        "train": ("convscope.training.command.prepare_launched", ["digits"]),
        "predict": ("convscope.evaluation.command.predict", ["r", "x.png"]),
        "evaluate": ("convscope.evaluation.command.evaluate", ["r"]),
        "diagnose": ("convscope.diagnosis.command.diagnose", ["r"]),
        "models": ("convscope.models.command.model_table", ["alexnet"]),
        "features": ("convscope.feature_store.command.features", ["digits"]),
    }
    for name, (place, words) in asked.items():
        monkeypatch.setattr(place, fail)
        answer = ask(name, *words)
        assert answer.code == 71, answer
        named = set(re.findall(r"--[\w-]+", answer.sentence))
        assert named == {"--batch-size", "--image-size"} & options_of(name)
        assert named or "end other programs" in answer.sentence


def test_smaller_batches_and_images_take_less_memory() -> None:
    from convscope.named_recipes import find_recipe
    from convscope.training.estimates import step_bytes

    recipe, network = find_recipe("default").recipe, build("resnet20", 10, 32, {"width": 4}, seed=0)
    _, an_image, _ = step_bytes(network, recipe, 32)
    assert an_image > 0  # for each image of a batch
    assert step_bytes(network, recipe, 16)[1] < 0.5 * an_image


@pytest.mark.parametrize(
    ("asked", "folder"),
    [
        ("train photos --name r --resume", "r"),
        ("diagnose r --images 1", "r/diagnose"),
        ("explain r --seeds 0 --layer conv1", "r/explain"),
        ("explain r --seeds 0 --filter 0", "r/explain/filters/0"),
        ("transfer photos --name t --image-size 64 --engine torch --quick", "t"),
    ],
)
def test_a_folder_that_is_in_use_is_waited_for(
    asked: str, folder: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, locks.lock(here / "runs" / folder, "it"):
        patched.delattr(Dataset, "__init__")  # it is said before images are read, which takes long
        assert re.search(r"in use by process \d+ on .*; wait, or stop it\.$", refused(*asked.split()))
    works(*asked.split())


def test_a_claim_without_data_has_some_at_the_size_that_is_named() -> None:
    lacking = [claim for claim in CLAIMS.values() if claim.plan("small") is None]
    assert lacking
    for claim in lacking:
        (note,) = _without_data(claim, "small").judgement.notes
        size, data = re.findall(r"at size (\w+), with (\w+)\.", note)[0]
        plan = claim.plan(size)
        assert plan is not None
        assert data in repr(plan.data)


def test_more_than_one_seed_has_an_interval() -> None:
    one = judging.over_seeds([1.0])
    assert judging.needed(one, 0.0) == "More than one seed would have to be trained to the end."
    assert not judging.needed(judging.over_seeds([1.0, 1.1, 0.9]), 0.0).startswith("More")


def test_there_is_no_home_and_the_cache_is_where_it_is_named(tmp_path: Path) -> None:
    code = "import os; os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None)\n"
    code += "from pathlib import Path\nfrom convscope import cache\n"
    code += "def nowhere(*_): raise RuntimeError('no home')\nimport platformdirs\n"
    code += "platformdirs.user_cache_path = nowhere\nprint(cache.cache_folder())"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(convscope.__file__).parents[1])}
    first = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    (variable,) = re.findall(r"(CONVSCOPE_\w+) names another", first.stderr)
    again = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment | {variable: str(tmp_path)}
    )
    assert again.stdout.strip() == str(tmp_path)
    assert not again.stderr


@pytest.mark.slow
def test_each_step_of_the_demo_is_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = works("demo", "--runs", "runs").out
    named = re.findall(r"\((convscope [^)]+)\)", said)
    assert [n.split()[1] for n in named] == ["train", "evaluate", "predict", "explain"]
    for line in named:
        works(*command(line + ")"))
    last = said.strip().splitlines()[-1]
    works(*command(last.replace("FOLDER", str(photos(tmp_path / "photos")))), *TINY)
