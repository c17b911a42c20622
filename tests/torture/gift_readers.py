"""Everything in convscope that reads a foreign file or folder, by the kind of gift it is given."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Reader = Callable[[Path], Any]


def _of(place: str, name: str) -> Callable[..., Any]:
    return getattr(importlib.import_module(f"convscope.{place}"), name)


def _plain(place: str, name: str, *more: Any) -> Reader:
    return lambda path: _of(place, name)(path, *more)


def _curve(path: Path) -> Any:
    if _of("diagnosis.curve_files", "is_curve")(str(path)):
        return _of("diagnosis.curve_files", "read_curve")(str(path))
    return None


def _asked(task: str | None) -> Reader:
    def read(path: Path) -> Any:
        options = _of("datasets.options", "DatasetOptions")()
        return _of("datasets.asked", "find_asked")(str(path), options, task, None)

    return read


def _dataset(path: Path) -> Any:
    loaded = _of("datasets.registry", "load_dataset")(str(path), image_size=16)
    return [loaded[i] for i in range(min(2, len(loaded)))] if hasattr(type(loaded), "__getitem__") else loaded


def _run(path: Path) -> Any:
    run = _of("training.runs", "find_run")(str(path), path.parent)
    parts = [run.recipe, run.log, run.timing, run.openings, run.diverged, run.classifier]
    return [part() if callable(part) else part for part in parts]


def _store(path: Path) -> Any:
    store = _of("feature_store.store", "Store")(path, "float32")
    return store.take(__import__("numpy").arange(sum(count for _, count in store._places)))


def _pages(path: Path) -> Any:
    """Every page of a folder of runs, and its twin in JSON: all that a browser can ask for."""
    from page_client import HOST, request

    served = _of("page.served", "Served")(path)
    page = _of("page.routes", "Page")(served)
    app = _of("page.application", "application")(page, [HOST])
    wanted = ["/".join(("", *parts)) for parts in _of("page.routes", "addresses")(page)]
    answers = [request(app, address) for address in wanted]
    broken = [a for a, b in zip(wanted, answers, strict=True) if b.status == 500]
    if broken:
        raise AssertionError(f"status 500 of {broken[0]}")
    return answers


def fork_conversion() -> None:
    """Let pickled weights be read by a fork of this process, where torch is loaded already; all else is the same."""
    weights, child = (importlib.import_module(f"convscope.models.{n}") for n in ("pickled_weights", "pickle_child"))

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.dup2(writing, 1)
                sys.stdout = os.fdopen(1, "w")
                code = child.main(*command[-3:])
                sys.stdout.flush()
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, errors="replace") as pipe:
            said = pipe.read()
        return SimpleNamespace(returncode=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), stdout=said)

    weights.subprocess = SimpleNamespace(run=run, TimeoutExpired=TimeoutError)


READERS: dict[str, Reader] = {
    "batch": lambda path: _of("datasets.cifar", "read_batch")(path.read_bytes(), path.name),
    "cifar10": lambda path: _of("datasets.registry", "load_dataset")("cifar10", data_root=path),
    "weights": _plain("models.pickled_weights", "read_weight_groups"),
    "tensors": _plain("tensor_files", "read_foreign_tensors"),
    "sealed": _plain("tensor_files", "read_tensors"),
    "header": _plain("tensor_files", "read_header"),
    "maps": _plain("tensor_files", "map_tensors"),
    "classifier": lambda path: _of("classifying.classifier", "Classifier").load(path),
    "json": _plain("storage", "read_json"),
    "lines": _plain("storage", "read_lines"),
    "image": _plain("images.decoding", "decode"),
    "dataset": _dataset,
    "asked": _asked(None),
    "boxes": _asked("detection"),
    "masks": _asked("segmentation"),
    "labels": _asked("multi_label"),
    "curve": _curve,
    "classes": lambda path: _of("evaluation.adopting", "read_classes")(str(path), None),
    "preprocess": _plain("images.preprocess_files", "read_preprocess"),
    "corrections": _plain("datasets.corrections", "read_corrections"),
    "table": _plain("datasets.table_reading", "read_table"),
    "yaml": _plain("datasets.yolo_names", "read_yaml"),
    "voc": _plain("datasets.voc", "read_voc"),
    "yolo": _plain("datasets.yolo", "read_yolo"),
    "coco boxes": _plain("datasets.coco_boxes", "read_coco_boxes"),
    "coco": _plain("datasets.polygons", "read_coco"),
    "run": _run,
    "store": _store,
    "pack": _plain("datasets.pack", "read_pack", 4, 16),
    "pages": _pages,
    "site": lambda path: importlib.import_module("torture.gift_markup").site(path),
    "markup": lambda path: importlib.import_module("torture.gift_markup").written(path),
    "handed in": lambda path: importlib.import_module("torture.gift_markup").handed_in(path),
    "onnx": lambda path: importlib.import_module("torture.gift_markup").onnx(path),
}
WEIGHTS = ("weights", "tensors", "sealed", "header", "maps", "classifier")
TEXTS = ("json", "lines", "table", "corrections", "classes", "preprocess", "curve")
ANY = ("image", "dataset", "asked")
BOXES = ("yaml", "voc", "yolo", "coco boxes", "coco")


def spent() -> float:
    """The seconds of computing of this process, and of those that it has started and that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def read_all(path: Path, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """What each reader made of a gift: nothing, or the kind of the error with its sentence and exit code."""
    from convscope.errors import ConvscopeError

    rows = []
    for name in names:
        row: dict[str, Any] = {"reader": name, "kind": "", "said": "", "code": 0}
        start = spent()
        try:
            READERS[name](path)
        except ConvscopeError as error:
            row |= {"kind": type(error).__name__, "said": str(error), "code": error.exit_code}
        except BaseException as error:
            row |= {"kind": "raised", "said": f"{type(error).__name__}: {error}"[:300], "code": -1}
        rows.append(row | {"seconds": round(spent() - start, 3)})
    return json.loads(json.dumps(rows))
