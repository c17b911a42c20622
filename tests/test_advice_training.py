"""What a training says that cannot begin, go on or end, followed: it then does."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import convscope
from convscope import storage
from convscope.errors import DamagedFile, LockedError, StorageError, Untrained
from convscope.models.registry import build
from convscope.training import starting
from convscope.training.command import prepare_training
from convscope.training.runs import Run, check_room, create_run, find_run, runs_folder
from following import TINY, ask, command, option, options_of, photos, refused, works

SMALL = ["--width", "4", "--epochs", "1", "--limit", "120", "--device", "cpu"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of photos in the current one."""
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    return "photos"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch takes as many seconds as there are hundreds of images, and one is enough."""
    monkeypatch.setattr(starting, "MOST_EPOCHS", 1)
    monkeypatch.setattr(starting, "epoch_seconds", lambda n, batches, r, v: len(batches.index) / 100)


def run(name: str = "r") -> Run:
    return find_run(name, runs_folder())


# ------------------------------------------------------------------------------------- options that exclude another

# What is asked for; of its refusal, the option that is left out or the value that is put in its place.
EXCLUSIVE = [
    ("--size small --recipe digits", r"leave out (--recipe) digits"),
    ("--size small --recipe digits", r"or (--size)\."),
    ("--compile --save-memory", r"(--compile) or"),
    ("--compile --save-memory", r"or (--save-memory)\."),
    ("--compile --watch", r"(--compile) or"),
    ("--compile --watch", r"or (--watch)\."),
    ("--minutes 1 --epochs 2", r"leave out (--epochs)"),
    ("--minutes 1 --epochs 2", r"or (--minutes)\."),
]


@pytest.mark.parametrize(("asked", "named"), EXCLUSIVE)
def test_one_of_two_options_is_left_out(asked: str, named: str, slow: None) -> None:
    """What follows is planned and not trained: to compile takes long."""
    found = re.search(r"(--\w[\w-]*) ?([\w.]*) (--\w[\w-]*) ?([\w.]*)", asked)
    assert found is not None
    given = {found[1]: found[2], found[3]: found[4]}
    common = ["train", "digits", "--limit", "150"]
    sentence = refused(*common, *asked.split())
    (left_out,) = re.findall(named, sentence)
    del given[left_out]
    kept = {name[2:].replace("-", "_"): number(value) for name, value in given.items()}
    prepare_training("digits", limit=150, **kept)  # type: ignore[arg-type]


def number(value: str) -> Any:
    return True if not value else int(value) if value.isdecimal() else value


# --------------------------------------------------------------------------------------------------- time and memory


@pytest.mark.parametrize("way", ["more time", "fewer images"])
def test_an_epoch_that_takes_too_long_is_given_time_or_fewer_images(way: str, slow: None) -> None:
    common = ["train", "shapes", "--model", "resnet20", "--width", "2", "--image-size", "16", "--device", "cpu"]
    sentence = refused(*common, "--limit", "200", "--minutes", "0.02")
    takes, leaves = map(float, re.findall(r"about ([\d.]+) s here.* leaves ([\d.]+) s", sentence)[0])
    assert takes > leaves
    if way == "more time":
        works(*common, "--limit", "200", "--minutes", 1.01 * takes / 60)
    else:
        works(*common, *option(sentence, "limit")[:1], int(190 * leaves / takes), "--minutes", "0.02")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--minutes 0", r"--minutes 0 is no time to train in"),
        ("--minutes nan", r"--minutes nan is no time to train in"),
        ("--memory 0", r"--memory 0 is no number of GB"),
        ("--memory inf", r"--memory inf is no number of GB"),
    ],
)
def test_a_number_of_minutes_or_of_gigabytes_does(words: str, sentence: str, slow: None, data: str) -> None:
    common = ["train", data, *(TINY if "memory" in words else [*TINY[:6], *TINY[8:]])]
    assert re.search(sentence, refused(*common, *words.split()))
    works(*common, words.split()[0], "1")


def test_a_device_is_one_of_those_that_are_named(data: str) -> None:
    sentence = refused("train", data, *TINY[:-6], "--device", "banana")
    (named,) = re.findall(r"it is no device: say (.*)\.$", sentence)
    for device in re.split(", | or ", named):
        told = ask("train", data, *TINY[:-6], "--device", device)
        assert told.code == 0 or "it is no device" not in told.sentence


def test_the_batch_size_that_fits_does(data: str) -> None:
    common = ["train", data, *TINY]
    sentence = refused(*common, "--batch-size", "64", "--memory", "0.001")
    fitting = option(sentence, "batch-size")
    assert 2 <= int(fitting[1]) < 64
    works(*common, *fitting, "--memory", "0.001")


UPHILL = """
import torch
class Uphill(torch.autograd.Function):
    forward = staticmethod(lambda context, x: x.clone())
    backward = staticmethod(lambda context, gradient: -1e4 * gradient)
class Net(torch.nn.Module):
    def __init__(self, k):
        super().__init__()
        self.c, self.f = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, k)
        torch.nn.init.zeros_(self.f.weight), torch.nn.init.zeros_(self.f.bias)
    def forward(self, x):
        return Uphill.apply(self.f(self.c(x).relu().mean((2, 3))))
def net(num_classes): return Net(num_classes)
"""


def test_where_no_rate_lowers_the_loss_one_is_given(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.training.estimates.RANGE_UPDATES", 20)
    Path("net.py").write_text(UPHILL)
    common = ["train", data, *TINY[4:], "--model", "net.py:net"]
    sentence = refused(*common, "--lr", "auto")
    works(*common, *option(sentence, "lr")[:1], "1e-9")


def test_a_class_of_two_images_and_more_is_trained(tmp_path: Path) -> None:
    photos(tmp_path / "few", each=1)
    assert "at least two different images" in refused("train", tmp_path / "few", *TINY)
    photos(tmp_path / "few", each=2, seed=1)
    works("train", tmp_path / "few", *TINY)


def test_a_disk_with_the_room_that_is_named_is_enough(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = prepare_training(data, model="alexnet", epochs=1, name="r")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 2**20}))
        with pytest.raises(StorageError) as caught:
            next(session.events())
    (needed,) = re.findall(r"needs (\d+) MiB", str(caught.value))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": (int(needed) + 1) * 2**20}))
    check_room(session.run, session.state)


# -------------------------------------------------------------------------------------------------- runs by name


def test_another_name_or_going_on_with_it(data: str) -> None:
    works("train", data, *TINY, "--name", "r")
    sentence = refused("train", data, *TINY, "--name", "r")
    works(*command(sentence))
    works("train", data, *TINY, *option(sentence, "name")[:1], "other")


def test_going_on_with_a_run_of_other_data_names_these(data: str) -> None:
    """`--resume` beside the data that were asked for would be refused."""
    works("train", "digits", *SMALL, "--name", "r")
    works(*command(refused("train", data, *TINY, "--name", "r")))


def test_where_data_moved_they_are_named_as_asked(data: str) -> None:
    works("train", data, *TINY, "--name", "r")
    Path(data).rename("moved")
    works(*command(refused("train", "moved", *TINY, "--name", "r")))


def test_a_run_made_meanwhile_is_gone_on_with_or_left(data: str) -> None:
    works("train", data, *TINY, "--name", "r")
    with pytest.raises(LockedError) as caught:
        create_run(runs_folder(), "r", {})
    sentence = str(caught.value)
    works("train", data, "--name", "r", *option(sentence, "resume")[:1])
    works("train", data, *TINY, *option(sentence, "name")[:1], "other")


KEPT = [
    (["--minutes", "1"], "leave out (--minutes)"),
    (["--memory", "1"], "leave out (--memory)"),
    (["--epochs", "3"], r"was started with (--epochs) 1 and not 3; .* leave the option out"),
    (["--width", "8"], r"was started with (--width) 4 and not 8; .* leave the option out"),
]


@pytest.mark.parametrize(("more", "named"), KEPT)
@pytest.mark.parametrize("way", ["leave out", "another name"])
def test_a_resumed_run_keeps_its_recipe(data: str, slow: None, more: list[str], named: str, way: str) -> None:
    works("train", data, *TINY, "--name", "r")
    words = ["train", data, "--name", "r", "--resume"]
    sentence = refused(*words, *more)
    assert re.findall(named, sentence) == more[:1]
    if way == "leave out":
        works(*words)
    else:
        plain = [*TINY[:2], *TINY[4:6], *([] if {"--minutes", "--epochs"} & {*more} else TINY[6:8])]
        works("train", data, *plain, *option(sentence, "name")[:1], "other", *more)


def test_changed_data_want_a_new_run(data: str) -> None:
    works("train", data, *TINY, "--name", "r")
    photos(Path(data), each=2, seed=9)
    sentence = refused("train", data, "--name", "r", "--resume")
    works("train", data, *TINY, *option(sentence, "name")[:1], "other")


def test_changed_code_wants_a_new_run(data: str) -> None:
    text = "import torch\ndef net(num_classes):\n    return torch.nn.Sequential(torch.nn.Conv2d(3, num_classes, 3), "
    Path("net.py").write_text(text + "torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n")
    own = ["--model", "net.py:net"]
    works("train", data, *TINY[4:], *own, "--name", "r")
    Path("net.py").write_text(Path("net.py").read_text() + "# changed\n")
    assert refused("train", data, "--name", "r", "--resume", *own).endswith("start a new run.")
    works("train", data, *TINY[4:], *own)


def test_a_run_without_an_epoch_is_trained_before_it_is_asked(data: str) -> None:
    session = prepare_training(data, model="resnet20", width=4, image_size=16, epochs=1, name="r")
    events = session.events()
    next(events)
    events.close()
    with pytest.raises(Untrained, match="its first epoch is not over, and nobody trains it") as told:
        convscope.evaluate("r")
    (said,) = re.findall(r"\(convscope (.*) goes on\)", str(told.value))
    works(*shlex.split(said))
    convscope.evaluate("r")


def test_the_last_run_is_trained_or_found_where_runs_are(data: str, tmp_path: Path) -> None:
    sentence = refused("evaluate", "last")
    works("train", data, *TINY, "--runs", tmp_path / "elsewhere")
    works("evaluate", "last", *option(sentence, "runs")[:1], tmp_path / "elsewhere")
    works("train", data, *TINY)
    works("evaluate", "last")
    opening = ("evaluate", "predict", "explain", "diagnose", "similar", "export", "train", "transfer", "study")
    assert all("--runs" in options_of(name) for name in opening)


@pytest.mark.parametrize("way", ["the old one", "a new run"])
def test_a_recipe_that_is_not_the_checkpoints_is_put_back(data: str, way: str) -> None:
    works("train", data, *TINY, "--name", "r")
    log = run().folder / "log.jsonl"
    old = log.read_bytes()
    rows = run().log()
    storage.commit_lines(log, [{**rows[0], "lr": 0.5}])
    sentence = refused("train", data, "--name", "r", "--resume")
    if way == "the old one":
        Path(re.findall(r"^(\S+) is not the one", sentence)[0]).write_bytes(old)
        works("train", data, "--name", "r", "--resume")
    else:
        works("train", data, *TINY, *option(sentence, "name")[:1], "other")


def test_a_link_in_a_run_is_replaced_by_a_copy(data: str, tmp_path: Path) -> None:
    works("train", data, *TINY, "--name", "r")
    place = run().folder / "classifier.safetensors"
    target = place.rename(tmp_path / "kept.safetensors")
    place.symlink_to(target)
    link = Path(re.findall(r"^(\S+) is a link", refused("predict", "r", f"{data}/ant"))[0])
    link.unlink()
    shutil.copy(target, link)
    works("predict", "r", f"{data}/ant")


def test_what_another_format_holds_is_made_again(data: str) -> None:
    works("train", data, *TINY, "--name", "r")
    description = storage.read_json(run().folder / "recipe.json")
    storage.commit_json(run().folder / "recipe.json", description | {"format": 1})
    with pytest.raises(DamagedFile, match="make it again"):
        run().description()
    shutil.rmtree(run().folder)
    works("train", data, *TINY, "--name", "r")
    run().description()


@pytest.mark.parametrize("name", ["train", "diagnose"])
def test_weights_that_only_a_runs_record_names_are_read_once_they_are_named(
    name: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.safetensors"
    save_file(build("resnet20", 2, 16, {"width": 4}, seed=0).state_dict(), weights)
    if name == "train":  # without a checkpoint its weights are still to be read
        prepare_training(data, model="resnet20", width=4, image_size=16, epochs=1, weights=weights, name="r")
    else:
        works("train", data, *TINY, "--weights", weights, "--name", "r")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "another machine's"))
    words = {"train": ["train", data, "--name", "r", "--resume"], "diagnose": ["diagnose", "r", data]}[name]
    sentence = refused(*words)
    (path,) = re.findall(r"^(.*?) is named by", sentence)
    works(*words, *option(sentence, "weights")[:1], path)
    works(*words)


# --------------------------------------------------------------------------------------------- stopped, and diverged


@pytest.fixture
def signals() -> Iterator[None]:
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "more", [[], ["--watch"], ["--seed", "3", "--augment", "light"], ["--name", "a.b"], ["--runs", "my runs"]]
)
def test_a_stopped_training_goes_on_by_the_command_that_is_printed(
    data: str, signals: None, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convscope.training.session import Session

    whole = Session._train

    def stopped(self: Session) -> Iterator[Any]:
        for number, event in enumerate(whole(self)):
            yield event
            if number == 0:
                self.stopping.append(signal.SIGTERM)

    tiny = TINY[:-4] if "--augment" in more else TINY
    with monkeypatch.context() as patch:
        patch.setattr(Session, "_train", stopped)
        answer = ask("train", data, *tiny, *more)
    assert answer.code == 143
    goes_on = works(*command(answer.sentence))
    assert "epoch 1/1" in goes_on.out


@pytest.mark.parametrize("way", ["lr", "clip"])
def test_a_training_that_ran_away_does_not_with_a_lower_rate_or_clipped(data: str, way: str) -> None:
    common = ["train", data, *TINY, "--batch-size", "4"]
    answer = ask(*common, "--lr", "1e8")
    assert answer.code == 76
    assert "Try a lower --lr" in answer.sentence
    value = {"lr": "0.01", "clip": "1"}[way]
    rate = [] if way == "lr" else ["--lr", "0.1"]
    works(*common, *option(answer.sentence, way)[:1], value, *rate)


# ------------------------------------------------------------------------------------------------- what comes next


def test_what_is_said_to_come_next_does(data: str) -> None:
    answer = works("train", data, *TINY)
    works(*command(answer.out.strip().splitlines()[-1]))
