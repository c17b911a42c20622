"""Runs as somebody might send them, and every command on each: what it says, runs, reads, and takes.

A process of its own (``python tests/gifts.py FOLDER``), for an audit hook cannot be taken off. It prints one JSON
object a command; the megabytes are the peak of the process so far.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TINY = "--model resnet20 --width 4 --image-size 16 --epochs 1 --flip none --augment none".split()
EVIL = "import pathlib\npathlib.Path({marker!r}).touch()\ndef build(num_classes, image_size):\n    raise SystemExit\n"
COMMANDS = {
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", "RUN", "photo.png"],
    "explain": ["explain", "RUN", "--seeds", "0", "--ablate", "0", "--layer", "conv1"],
    "explain an image": ["explain", "RUN", "--image", "photo.png"],
    "diagnose": ["diagnose", "RUN"],
    "similar": ["similar", "RUN", "photo.png", "--engine", "torch"],
    "export": ["export", "RUN", "--format", "safetensors"],
    "resume": ["train", "digits", "--resume", "--name", "RUN"],
    "transfer": ["transfer", "digits", "--name", "RUN"],
    "predict of the file": ["predict", "FILE", "photo.png"],
    "weights": ["explain", "resnet20", "digits", "--weights", "FILE"],
}


class Witness:
    """Notes each file below a folder that this process opens, and each module it imports from there."""

    def __init__(self, outside: Path) -> None:
        self.outside, self.seen = str(outside), []
        sys.addaudithook(self.note)

    def note(self, event: str, words: tuple[Any, ...]) -> None:
        named = event in ("open", "os.listdir", "os.scandir") and isinstance(words[0], (str, os.PathLike))
        if named and os.path.abspath(os.fspath(words[0])).startswith(self.outside):
            self.seen.append(os.fspath(words[0]))


def forge(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the recipe and the classifier's description alike, sealed again."""
    from convscope import storage, tensor_files

    box = storage.read_json(run / "recipe.json")
    change(box)
    storage.commit_json(run / "recipe.json", box)
    path = run / "classifier.safetensors"
    if path.exists():
        tensors, meta = tensor_files.read_tensors(path)
        recipe = {"recipe": meta["provenance"]["recipe"], "data": meta["provenance"]["data"]}
        change(recipe)
        meta["provenance"] |= recipe
        model = recipe["recipe"]["model"]
        meta["architecture"] |= {"name": model["name"], "image_size": recipe["recipe"]["data"]["image_size"]}
        meta["architecture"]["options"] |= {k: v for k, v in model.items() if v is not None and k in ("width", "depth")}
        tensor_files.commit_tensors(path, tensors, meta)


def diverged(run: Path) -> None:
    """Leave nothing but the recipe and a record that the training ran away."""
    from convscope import storage

    for path in (run / "classifier.safetensors", run / "log.jsonl"):
        path.unlink()
    shutil.rmtree(run / "checkpoints")
    storage.commit_json(
        run / "diverged.json", {"epoch": 1, "step": 1, "lr": 0.1, "loss": "nan", "images": ["cat/1.png"]}
    )


def gifts(base: Path, outside: Path) -> Iterator[tuple[str, Path]]:
    """Each gift with its name: a copy of a sound run, changed."""
    (outside / "evil.py").write_text(EVIL.format(marker=str(outside / "ran")))

    def code(box: dict[str, Any], place: str) -> None:
        box["recipe"]["model"]["name"] = place

    def set_part(section: str, part: str, value: Any) -> Callable[[dict[str, Any]], None]:
        return lambda box: box["recipe"][section].__setitem__(part, value)

    def data_outside(box: dict[str, Any]) -> None:
        box["recipe"]["data"]["name"] = box["data"]["name"] = str(outside / "private")

    changes: dict[str, Callable[[dict[str, Any]], None]] = {
        "code in the run": lambda box: code(box, str(base.parent / "gift" / "evil.py:build")),
        "code outside": lambda box: code(box, f"{outside}/evil.py:build"),
        "data outside": data_outside,
        "weights outside": set_part("model", "weights", str(outside / "w.safetensors")),
        "width": set_part("model", "width", 90_000),
        "depth": set_part("model", "depth", 10**6),
        "image size": set_part("data", "image_size", 10**6),
        "batch size": set_part("loop", "batch_size", 10**12),
    }
    for cut in (False, True):
        for name, change in changes.items():
            run = base.parent / "gift"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(base, run)
            shutil.copy(outside / "evil.py", run)
            forge(run, change)
            if cut:
                diverged(run)
            yield f"{name}, diverged" if cut else name, run
    for name in ("classifier.safetensors", "curves.png", "evaluate", "log.jsonl"):
        run = base.parent / "gift"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(base, run)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / "private" / "a" / "0.png")
        yield f"a link {name}", run


def ask(words: list[str]) -> tuple[int, str]:
    """Run one command; its exit code and what it said."""
    from convscope.cli import run

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(words)
    return code, said.getvalue()


def main(folder: Path) -> None:
    """Make the gifts in ``folder`` and try every command on each."""
    import numpy as np
    from PIL import Image

    folder, outside = folder.resolve(), folder.resolve() / "outside"
    os.environ |= {"CONVSCOPE_RUNS": str(folder / "runs"), "CONVSCOPE_CACHE": str(folder / "cache")}
    os.chdir(folder)
    for place in (outside / "private" / "a", outside / "private" / "b"):
        place.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.full((16, 16, 3), 40 * i, np.uint8)).save(place / f"{i}.png")
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save("photo.png")
    assert ask(["train", "digits", *TINY, "--limit", "60", "--name", "base"])[0] == 0
    (outside / "w.safetensors").write_bytes((folder / "runs" / "base" / "classifier.safetensors").read_bytes())
    witness = Witness(outside)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # torch and a sound training
    for name, run in gifts(folder / "runs" / "base", outside):
        for command, words in COMMANDS.items():
            file = str(run / "classifier.safetensors")
            if "FILE" in words and not (run / "classifier.safetensors").is_file():
                continue
            witness.seen.clear()
            start = time.perf_counter()
            code, said = ask([{"RUN": "gift", "FILE": file}.get(word, word) for word in words])
            row = {
                "gift": name,
                "command": command,
                "code": code,
                "said": said[-600:],
                "seconds": round(time.perf_counter() - start, 2),
                "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "base": base,
                "outside": sorted(set(witness.seen)),
                "ran": (outside / "ran").exists(),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
