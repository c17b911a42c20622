"""Every page with what is hard to show: names from right to left, without a font, of sixty letters, and of markup."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import numpy as np

import convscope
from convscope.canvas.figures import Drawing, drawn_names
from convscope.canvas.pages import page
from convscope.canvas.sheets import image_grid, labels_of
from convscope.canvas.sprites import sprite
from convscope.classifying.metrics import Mistake
from convscope.diagnosis.drawing import Way, factors
from convscope.evaluation.drawing import confusion, mistakes
from convscope.explanation.drawing import CardRow, card_rows, probes
from convscope.explanation.layers import layer_file
from convscope.inspection.findings import GRADES, Finding
from convscope.studies.drawing import Quantity, claim
from convscope.training.drawing import curves
from convscope.training.page_report import Choice
from convscope.transfer_learning.drawing import FilterRow, RungBar, ladder, learning_curve, path, used_filters

SOURCE = Path(convscope.__file__).parent
NAMES = (
    "\u0633\u064a\u0627\u0631\u0629 12",
    "\u0643\u0644\u0628 (\u0635\u063a\u064a\u0631)!",
    "\u7ea2\u8272\u7684\u4ea4\u901a\u4fe1\u53f7\u706f",
    "Lepidoptera" * 5 + "Monarch",
    "Lepidoptera" * 5 + "Morpho",
    "a long name of a class that has its spaces and goes on and on",
    "<b>cat & dog</b>",
)
LONG = "a_run_of_sixty_letters_that_a_user_gave_without_a_single_space"
COUNT = len(NAMES)
CHOICES = [Choice(LONG, "images held out in turn by cross-validation", 1234), Choice("nothing", "test images", None)]
LOOKS = [{"at": "2026-01-02T03:04:05+00:00", "n": 1234, "part": "test"}] * 2


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def drawings() -> dict[str, Drawing]:
    """The drawings of the pages, with these names."""
    found = [Mistake(i, i, (i + 1) % COUNT, 0.9) for i in range(COUNT)]
    log = [{"epoch": e, "train_loss": 2 / e, "val_loss": 2 / e, "val_top1": 0.5, "lr": 0.1} for e in (1, 2, 3)]
    ways = [("now", Way([LONG, "fc"], [1e-9, 1e-3, 1], [1, 2], [3, 4], [0.1, 0.2]))]
    quantity = Quantity("gain " * 12, "1 [0, 2] points", "holds", 0.01, 0.0, 0.02, (0.0, None))
    filters = [FilterRow(name, 3, 0.2, images(8), [True] * 8) for name in drawn_names(NAMES)[0]]
    labels, note = labels_of(NAMES, range(COUNT))
    return {
        "curves": curves(log),
        "confusion": confusion(np.ones((COUNT, COUNT), dtype=int), NAMES),
        "mistakes": mistakes(images(COUNT), found, NAMES),
        "augmentation": image_grid(images(8 * COUNT), [], 8, "As seven epochs show it", labels, note),
        "overview": card_rows([CardRow(LONG, [list(images(7))], ["words of a card " * 9] * 4)] * 3, "Filters " * 30),
        "probes": probes([LONG, "fc"], [(0.5, 0.4, 0.6)] * 2, np.full((2, COUNT), 0.5), NAMES),
        "factors": factors(ways),
        "claim": claim({f"{LONG} {k}": [(1, 2.0), (9, 1.0 / k)] for k in (1, 2)}, [quantity]),
        "ladder": ladder([RungBar("FCNN head", 0.9, 0.8, 0.95, 3.2, 15_372, kept=True)] * 3),
        "curve": learning_curve([(2, 0.5, 0.4, 0.6), (8, 0.7, 0.6, 0.8)], [(2, 0.5, 0.4, 0.6)] * 2),
        "path": path([1e-3, 1e-1], [0.8, 0.9], [0.5, 0.4], 0.1),
        "filters": used_filters(filters),
    }


def _evaluations(drawn: dict[str, str]) -> list[dict[str, Any]]:
    rate = dict.fromkeys("precision recall recall_low recall_high f1".split(), 0.25)
    names = "top1 top1_low top1_high top5 balanced_accuracy loss ece ece_low ece_high temperature"
    figures = dict.fromkeys(f"{names} calibrated_ece calibrated_ece_low calibrated_ece_high".split(), 0.3)
    figures |= {"temperature_n": 90, "test_openings": 2}
    figures["coverage"] = [{"share": 0.5, "n": 617, "least": 0.9, "top1": 0.8, "top1_low": 0.7, "top1_high": 0.9}]
    figures |= {"data": NAMES[0], "part": "test", "n": 1234, "top5_k": 5, "notes": [f"{NAMES[1]} has 3 images."]}
    figures["classes"] = [{"name": name, "n": 9, **rate} for name in NAMES]
    pairs = [(NAMES[0], NAMES[1], 3, 9), (NAMES[3], NAMES[6], 2, 9)]
    return [{"name": "x", "figures": figures, "images": drawn, "pairs": pairs}]


def _training(drawn: dict[str, str]) -> dict[str, Any]:
    summary = dict.fromkeys("val_top1 val_low val_high val_n best_epoch epochs seconds images_per_second".split(), 0.5)
    data = {"name": LONG, "counts": {"train": {"a": 3}, "val": {"a": 2}}, "fingerprint": "0f" * 32}
    trained = {
        "options": {"model": "alexnet", "weights": "/".join([LONG] * 3), "rate": 0.1},
        "summary": summary,
        "roofline": "roofline: 0.01 TFLOP",
        "curves": drawn["curves"],
        "augmentation": drawn["augmentation"],
        "command": f"convscope train {LONG} --model {LONG}",
        "amounts": {"rotate": 3.0},
        "own_code": f"{LONG}.py",
    }
    return {
        "run": Some(name=LONG),
        "description": {"data": data, "machine": {"device": LONG, "threads": 2}},
        "trained": trained,
        "choices": CHOICES,
        "evaluations": _evaluations(drawn),
        "openings": LOOKS,
        "doctor": {"verdict": f"{NAMES[6]} is dark.", "images": 99, "findings": [("fault", f"{NAMES[1]}: 3 copies")]},
    }


def _transfer(drawn: dict[str, str]) -> dict[str, Any]:
    rungs = [
        {"name": n, "val_top1": 0.9, "low": 0.8, "high": 0.95, "n": 999, "seconds": 3.2, "parameters": 1_234_567}
        | {"measured_by": "cross-validation", "chosen": "C = 0.0032, widths 256 and 128, dropout 0.5"}
        for n in ("k-NN", "head", "FCNN head", "last stage", "full")
    ]
    paired = {"k-NN": {"difference": -0.01, "low": -0.02, "high": 0.001, "p": 0.0123}}
    filters = [{"name": n, "layer": "conv_head", "filters": [1, 22, 333], "shares": [0.1, 0.2, 0.3]} for n in NAMES]
    filters = [row | {"by_absence": 0.2} for row in filters]
    summary = {"sentence": "head: 90.9 %.", "test_top1": 0.8, "test_low": 0.7, "test_high": 0.9, "test_n": 51}
    summary |= {"notes": [f"{NAMES[0]}, {NAMES[1]} are few."], "rungs": rungs, "best": "head", "paired": paired}
    return {
        "summary": summary | {"filters": filters, "filters_decide": False},
        "leading": [1],
        "evaluations": _evaluations(drawn),
        "name": LONG,
        "roofline": "features",
        "images": drawn,
        "openings": LOOKS,
        "choices": CHOICES,
    }


def _task_transfer(drawn: dict[str, str]) -> dict[str, Any]:
    name = "a way " * 9
    rung = {"name": name, "n": 999, "seconds": 3.2, "parameters": 1_234_567, "chosen": "C = 0.0032, 40 epochs"}
    since = {"data": NAMES[0], "part": "all", "n": 12345, "called": "mean average precision", "value": "90.9 %"}
    paired = {name: {"difference": -0.01, "low": -0.02, "high": 0.001, "p": 0.0123}}
    test = {"half_width": 1.5, "coverage": 0.91, "coverage_low": 0.8, "coverage_high": 0.97, "aimed_coverage": 0.9}
    vote = {"layer": LONG, "filter": 1279, "adds": 0.25, "part": 0.123}
    filters = [{"name": n, "filters": [vote] * 5, "by_absence": 0.5, "images": 16} for n in NAMES]
    summary = {"sentence": f"{NAMES[6]}: 90.9 %.", "test_n": 51, "best": name, "paired": paired, "test": test}
    summary |= {"filters": filters, "filters_of": "linear", "rungs": [rung] * 2}
    return {
        "summary": summary | {"notes": [f"{NAMES[0]}, {NAMES[1]} are few."]},
        "called": "mean intersection over union",
        "words": ["90.9 % [80.1, 95.2]"] * 2,
        "asked_since": [since | {"low": "80.1 %", "high": "95.2 %"}] * 2,
        "test_words": "90.9 % [80.1, 95.2]",
        "asks": "the class of each pixel",
        "name": LONG,
        "roofline": "features",
        "images": dict.fromkeys(("classes", "worst", "filters-0"), drawn["mistakes"]) | {"numbers": drawn["factors"]},
        "openings": LOOKS,
        "choices": CHOICES,
    }


def _layer(drawn: dict[str, str]) -> dict[str, Any]:
    exemplar = {"label": NAMES[1], "origin": f"{NAMES[1]}/1.png", "value": 1.5}
    card = {
        "exemplars": [exemplar] * 9,
        "least": [exemplar] * 9,
        "sentences": [f"On the mean it raises {NAMES[0]} by 0.23, and lowers {NAMES[1]} by 0.22 (logits)."],
        "classes": [{"name": name, "count": 2} for name in NAMES],
        "built_from": [{"layer": LONG, "channel": 3, "weight": 0.5}],
        "twins": [(1, 0.9)],
        "usage": {"recall_lost": [(name, 0.1) for name in NAMES]},
    }
    summary = dict.fromkeys("median_ratio most_lost effective_field".split(), 3.0)
    summary |= {"layer": LONG, "filters": 3, "places": (8, 8), "field": (7, 7), "images": 90, "of": 100, "dead": [2]}
    sheet = base64.b64encode(sprite([list(images(11))] * 6, 32, 11)).decode("ascii")
    return {
        "name": NAMES[0],
        "data": NAMES[1],
        "summary": summary | {"duplicates": [(0, 1)], "unbelieved": [1], "most_used": 0},
        "cards": [card | {"filter": k} for k in range(3)],
        "others": [Some(name=LONG, file=LONG), Some(name="conv2", file="conv2")],
        "sheets": [sheet, sheet],
        "file_of": layer_file,
        "heights": [6, 3],
        "shown": 64,
        "columns": 11,
        "strips": 3,
        "leading": 2,
        "lead": "the image that gradient ascent made, and the filter itself",
        "whole": True,
    }


def _index(drawn: dict[str, str]) -> dict[str, Any]:
    row = {"layer": LONG, "filters": 64, "places": (32, 32), "field": (7, 7), "dead": [], "duplicates": []}
    row |= {"nothing_simple": [1], "median_ratio": 7.1, "most_used": 3, "most_lost": 0.01}
    shown = {"overview": drawn["overview"], "classes": drawn["mistakes"], "probes": drawn["probes"]}
    told = {"name": NAMES[1], "data": NAMES[0], "notes": [f"{NAMES[0]} is rare."], "layers": [row] * 3}
    return {**told, "file_of": layer_file, **shown}


def _diagnosis(drawn: dict[str, str]) -> dict[str, Any]:
    finding = Some(fault="gradients vanish", sentence="x" * 60, then="add a norm.")
    factor = dict.fromkeys("gain spectral_norm frobenius branch_norm total_norm total_least".split(), 0.123)
    state = {"norm_bound": 10.0, "norm_end_to_end": 0.5, "shrink": [0.9], "jacobians": [{"name": LONG, **factor}]}
    summary = {"name": NAMES[0], "findings": [finding] * 2, "notes": ["n"], "states": {"start": state, "now": state}}
    summary["evidence"] = {"names": [], "the_largest_share_of_dead_channels": 0.5, "other": 1e-9}
    return {
        "summary": summary,
        "sentence": "healthy.",
        "images": dict.fromkeys(("factors", "watched", "norm"), drawn["factors"]),
        "flows": {"before the first step": "it shrinks"},
    }


def _study(drawn: dict[str, str]) -> dict[str, Any]:
    quantity = Some(quantity="gain of the " + "longest " * 9, told="1 [0, 2]", verdict="holds", wanted="> 0")
    quantity.would_decide = "Sixty seeds would decide."
    arm = Some(name=LONG, parameters=123_456, rate=0.1)
    arm.trainings = [Some(diverged=None, train_loss=0.5, train_accuracy=0.9, test_accuracy=0.8)]
    data = Some(name=NAMES[0], fingerprint="0f" * 32, image_size=28, train=100, val=10, test=10)
    told = {key: {"torch": "2.9", "processor": LONG} for key in ("versions", "machine")}
    plan = Some(by_place=["norms"], steps=9, batch_size=64, rates=[0.1], trial_seeds=[7], precision="float32")
    outcome = {"claim": "vanishing-gradients", "sentence": "s", "question": "q?", "expected": "e", "verdict": "holds"}
    outcome |= {"words": "curves", "quantities": [quantity] * 2, "notes": ["n"], "arms": [arm], "seeds": [1], **told}
    outcome |= {"data": data, "plan": plan, "training_seconds": 3.0, "interrupted": False}
    return {
        "report": Some(size="small", outcomes=[Some(**outcome)], sentence=lambda: "1 holds"),
        "command": f"convscope study vanishing-gradients --runs {LONG}/{LONG}",
        "shared": {"versions": {"torch": "2.9"}, "machine": None},
        "data": [data],
        "images": {"vanishing-gradients": drawn["claim"]},
        "places": {"vanishing-gradients": drawn["factors"]},
    }


def _doctor(drawn: dict[str, str]) -> dict[str, Any]:
    uri = next(iter(drawn.values()))
    findings = [
        Finding(
            "names-alike", grade, f"classes {NAMES[0]} and {NAMES[1]} differ.", 9, f"rename {NAMES[2]}.", tuple(NAMES)
        )
        for grade in GRADES
    ]
    images = [{"uri": uri, "name": name, "label": name} for name in NAMES[:2]]
    label = {"uri": uri, "name": NAMES[0], "label": NAMES[0], "likeliest": NAMES[1], "chance": "99%"}
    summary = {"data": NAMES[0], "verdict": f"1 fault: {NAMES[0]}.", "images": 9, "classes": 3, "corrections": 2}
    summary["corrections_file"] = "corrections.csv"
    return {
        "summary": summary | {"notes": [f"a note of {NAMES[0]}."], "seconds": {"reading images": 1.0}},
        "findings": findings,
        "grades": GRADES,
        "pairs": [{"images": images, "alike": "alike: 0.990", "clash": True}],
        "labels": [label],
        "fits": [{"whole": uri, "name": NAMES[0], "said": "9 x 9", "fits": {"crop": uri, "pad": uri, "squash": uri}}],
    }


VALUES = {
    "inspection/report.html": _doctor,
    "training/report.html": _training,
    "training/transferred.html": _transfer,
    "training/transferred_task.html": _task_transfer,
    "explanation/layer.html": _layer,
    "explanation/index.html": _index,
    "diagnosis/report.html": _diagnosis,
    "studies/report.html": _study,
}


def pages() -> dict[str, str]:
    """Each page's template, and what it makes of these names."""
    drawn = {name: drawing.data_uri() for name, drawing in drawings().items()}
    numbers = drawn_names(NAMES)[1]
    return {name: page(SOURCE / name, names=NAMES, numbers=numbers, **values(drawn)) for name, values in VALUES.items()}
