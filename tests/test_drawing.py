"""Drawings: files that open, have the size they should, and are the same bytes each time. Looks are for eyes."""

import io
import math
import os
import subprocess
import sys
import threading

import matplotlib
import numpy as np
import pytest
from PIL import Image

from convscope.canvas import figures as canvas
from convscope.canvas.figures import Drawing
from convscope.canvas.sheets import image_grid
from convscope.classifying import metrics
from convscope.diagnosis.drawing import NormImage, Way, factors, norm, watched
from convscope.evaluation import drawing
from convscope.evaluation.drawing import calibration, confusion
from convscope.explanation.drawing import CardRow, attributions, card_rows, map_summary, probes, stacked
from convscope.studies.drawing import Quantity, claim, profiles
from convscope.training.drawing import curves, rate_range
from convscope.transfer_learning.drawing import FilterRow, RungBar, ladder, learning_curve, path, used_filters

ODD_NAMES = ["$x_1$ costs $5", "a_b^c \\frac{", "日本語", "\U0001f600", "tab\tnew\nline", "\udcff bytes", "", "é→ü"]


def opened(result: Drawing) -> Image.Image:
    image = Image.open(io.BytesIO(result.png))
    image.load()
    return image


def log_of(epochs: int) -> list[dict]:
    def row(epoch: int) -> dict:
        top1 = 0.8 - 0.5 / epoch
        losses = {"train_loss": 2 / epoch, "val_loss": 2.2 / epoch, "lr": 0.1 / epoch}
        return {"epoch": epoch, **losses, "train_top1": top1 + 0.1, "val_top1": top1, "val_low": top1 - 0.01} | {
            "val_high": top1 + 0.01
        }

    return [row(epoch) for epoch in range(1, epochs + 1)]


def scored(k: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(k)
    labels, logits = generator.integers(0, k, n), generator.normal(size=(n, k))
    logits[np.arange(n), labels] += 2
    return logits, labels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


QUANTITIES = [
    Quantity("$gain", "1 [0, 2] points", "holds", 0.01, 0.0, 0.02, (0.0, None), lambda v: f"{100 * v:.3g}"),
    Quantity(
        "of one seed " * 9, "2 times", "inconclusive", 1.0, -math.inf, math.inf, (None, 0.25), lambda v: f"{2**v:.3g}"
    ),
    Quantity("same", "0", "does not hold", 0.0, 0.0, 0.0, (-1.0, 1.0)),
]
WAY = Way(["$conv", "block", "fc"], [1e-9, 1e-3, 0.1, 1], [1, 2, 0.5], [3, 4, 1], [math.nan, 0.1, math.nan])
EVERY = {
    "curves": lambda: curves(log_of(20)),
    "rate range": lambda: rate_range([1e-4, 1e-2, 1.0], [2.3, 1.0, 4.0], 2.5e-3),
    "confusion": lambda: confusion(metrics.confusion(*scored(10)), [f"class {i}" for i in range(10)]),
    "image_grid": lambda: image_grid(noise(6, 32, 32, 3), ["cat→dog 97 %"] * 6, 3, "Mistakes"),
    "card_rows": lambda: card_rows(
        [CardRow("conv1 3", [[noise(7, 7, 3)], [noise(9, 5, 3)] * 2], ["$x_1$, a sentence"] * 3)] * 4, "Filters"
    ),
    "probes": lambda: probes(["a", "b"], [(0.5, 0.4, 0.6)] * 2, np.array([[0.1, math.nan], [1, 0]]), ["x", "y"]),
    "attributions": lambda: attributions(noise(8, 8, 3), [("cam", np.eye(8)), ("flat", np.zeros((8, 8)))], "h"),
    "stacked": lambda: stacked([EVERY["curves"]().png, EVERY["rate range"]().png]),
    "map_summary": lambda: map_summary(noise(8, 8, 3), [("conv1", [3, 1], np.ones((2, 4, 4)), 0.5)] * 3),
    "ladder": lambda: ladder([RungBar("$head", 0.9, 0.8, 0.95, 3.2, 15_372, kept=True)] * 3),
    "learning curve": lambda: learning_curve([(2, 0.5, 0.4, 0.6), (8, 0.7, 0.6, 0.8)], [(2, 0.5, 0.4, 0.6)] * 2),
    "path": lambda: path([1e-3, 1e-1], [0.8, 0.9], [0.5, 0.4], 0.1),
    "used filters": lambda: used_filters([FilterRow("$a", 3, 0.2, noise(5, 8, 8, 3), [True] * 5)] * 4),
    "calibration": lambda: calibration(metrics.calibration(*scored(10))),
    "factors": lambda: factors([("start", WAY), ("now", WAY)]),
    "factors alone": lambda: factors([("now", Way(["$conv"], [0.0, 1.0]))]),
    "claim": lambda: claim({f"$arm {k}" * k: [(1, 2.0), (9, 1.0 / k)] for k in range(1, 11)}, QUANTITIES),
    "claim without curves": lambda: claim({"fitted": []}, QUANTITIES[:1]),
    "profiles": lambda: profiles({"start": {"$a": [1e-9, 0.0, 1.0], "b": [1.0]}, "end": {"$a": [1.0]}}, "layer"),
    "watched": lambda: watched(
        [0, 10, 20], {"scale": ["a", "b"], "dead": ["a", "b"]}, {"scale": np.ones((3, 2)), "dead": np.zeros((3, 2))}
    ),
    "norm": lambda: norm(
        NormImage("$bn", *(np.linspace(-1, k, 99) for k in (1, 2, 3)), [1, 64], [0.5, 0.0], [0.3, 0.0])
    ),
}


@pytest.mark.parametrize("name", EVERY)
def test_same_bytes_whatever_the_settings(name):
    first = EVERY[name]()
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20, "savefig.dpi": 30}):
        assert EVERY[name]() == first
        assert matplotlib.rcParams["font.size"] == 20  # and the user's settings are left alone
    assert not {"Software", "Creation Time"} & set(opened(first).info)


@pytest.mark.parametrize("name", EVERY)
def test_a_readable_size_on_white(name):
    image = opened(EVERY[name]())
    assert 400 <= image.width <= 1200
    assert 300 <= image.height <= 1200
    corners = [(0, 0), (image.width - 1, 0), (0, image.height - 1), (image.width - 1, image.height - 1)]
    assert {image.convert("RGB").getpixel(corner) for corner in corners} == {(255, 255, 255)}


def test_a_notebook_and_a_page_can_show_it():
    result = EVERY["curves"]()
    assert result._repr_png_() == result.png
    assert result.data_uri().startswith("data:image/png;base64,iVBOR")


def test_threads_do_not_disturb_each_other():
    expected, results = [EVERY[name]() for name in EVERY], {}
    threads = [threading.Thread(target=lambda n=name: results.update({n: EVERY[n]()})) for name in EVERY]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[name] for name in EVERY] == expected


def test_neither_pyplot_nor_torch_is_imported():
    code = "import sys, convscope.training.drawing as d; d.curves([{'epoch': 1, 'val_top1': 0.5}])"
    code += "; assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)


@pytest.mark.parametrize("epochs", [1, 2, 200])
def test_curves_of_any_length(epochs):
    assert opened(curves(log_of(epochs))).size == (960, 760)


def test_curves_leave_out_what_is_missing():
    log = log_of(6)
    log[1] |= {"val_loss": None, "val_top1": None, "val_low": None, "val_high": None}
    log[3] |= {"train_loss": math.nan, "val_loss": math.inf}
    log[5] |= {"val_low": None, "val_high": None}
    opened(curves(log))
    without_rate = [{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "train_loss": 0.5}]
    assert opened(curves(without_rate)).size == (960, 650)
    opened(curves([{"epoch": 3}]))
    opened(curves([{"epoch": 1, "lr": 0.0}]))
    with pytest.raises(ValueError, match="without epochs"):
        curves([])


@pytest.mark.parametrize("k", [1, 2, 15, 60, 100, 120])
def test_confusion_of_any_size(k):
    image = opened(confusion(metrics.confusion(*scored(k)), [f"species number {i}" for i in range(k)]))
    assert min(k, 40 if k > 100 else k) * 15 < image.width < 1900
    assert image.height < 1900


def test_of_very_many_classes_the_confusion_shows_those_with_most_mistakes():
    matrix = 5 * np.eye(1000, dtype=int)
    matrix[[700, 700, 3], [12, 901, 900]] = 9, 2, 1
    assert drawing.most_mistaken(matrix, 3).tolist() == [12, 700, 901]
    assert drawing.most_mistaken(matrix, 5).tolist() == [3, 12, 700, 900, 901]
    grey = np.asarray(opened(confusion(matrix, [f"class {i}" for i in range(1000)])).convert("RGB")).astype(int)
    assert (abs(grey - [213, 94, 0]).max(2) < 60).sum() > 300  # a mistake is as large as in any other matrix


def test_confusion_shows_a_mistake_in_a_hundred():
    def most_orange(matrix):
        pixels = np.asarray(opened(confusion(matrix, ["a", "b"])).convert("RGB")).astype(int)
        return (pixels[60:240, 40:280, 0] - pixels[60:240, 40:280, 2]).max()  # without the colour bars

    assert most_orange([[100, 0], [0, 100]]) < 20
    assert most_orange([[99, 1], [0, 100]]) > 60


def test_confusion_of_absent_classes_and_of_nothing():
    opened(confusion([[3, 1], [0, 0]], ["cat", "dog"]))
    opened(confusion([[0, 0], [0, 0]], ["cat", "dog"]))
    with pytest.raises(ValueError, match=r"shape \(2, 2\) does not fit 3 names"):
        confusion([[1, 0], [0, 1]], ["a", "b", "c"])


def test_odd_names_are_drawn_as_they_are():
    opened(confusion(np.eye(8, dtype=int), ODD_NAMES))
    opened(image_grid(noise(8, 8, 8, 3), ODD_NAMES, 4, heading="$\\alpha$ 日", row_labels=["$a$", "日"]))
    dollars, plain = (image_grid(noise(1, 32, 32, 3), [title], 1) for title in ("$x^2$", "x2"))
    assert dollars != plain


def test_long_names_do_not_take_the_image():
    image = opened(confusion(np.eye(3, dtype=int), ["a very long name of a class " * 5] * 3))
    assert image.width < 800
    assert opened(image_grid(noise(2, 32, 32, 3), ["wide name " * 30 + "→dog 97 %", ""], 2)).width < 320


def test_titles_break_after_the_arrow_and_keep_the_number():
    figure = canvas.new_figure(100, 100)
    with canvas.in_style():
        for title, expected in [
            ("cat→dog 97 %", "cat→dog 97 %"),
            ("Egyptian cat→Persian cat 88 %", "Egyptian cat→\nPersian cat 88 %"),
            ("deer→automobile 93 %", "deer→\nautomobile 93 %"),
        ]:
            assert canvas.two_lines(figure, title, 130) == expected
        long = "soft-coated wheaten terrier→Staffordshire terrier 97 %"
        first, second = canvas.two_lines(figure, long, 130).split("\n")
        assert first.endswith("…→")
        assert second.endswith("… 97 %")
        assert canvas.two_lines(figure, "a" * 60 + " 0.998", 130).endswith("… 0.998")


def test_small_images_are_enlarged_exactly():
    image = noise(1, 8, 8, 3)
    sheet = np.asarray(opened(image_grid(image, [], 1)).convert("RGB"))
    inside = sheet[13 : 13 + 96, 13 : 13 + 96]  # the margin and the thin line
    np.testing.assert_array_equal(inside, image[0].repeat(12, 0).repeat(12, 1))


@pytest.mark.parametrize("shape", [(1, 28, 28, 1), (1, 300, 200, 3), (64, 32, 32, 3), (5, 1, 500, 3)])
def test_sheets_of_any_shape(shape):
    sheet = opened(image_grid(noise(*shape), [], 8))
    assert sheet.width < 1000
    rows = -(-shape[0] // 8)
    labelled = opened(image_grid(noise(*shape), ["t"] * shape[0], 8, row_labels=["row"] * rows))
    assert labelled.width > sheet.width


@pytest.mark.parametrize(
    ("images", "titles", "message"),
    [
        (np.zeros((1, 8, 8, 3)), [], "uint8"),
        (noise(1, 3, 8, 8), [], "uint8"),
        (noise(0, 8, 8, 3), [], "uint8"),
        (noise(2, 8, 8, 3), ["one"], "1 titles"),
    ],
)
def test_sheets_that_do_not_fit_say_so(images, titles, message):
    with pytest.raises(ValueError, match=message):
        image_grid(images, titles, 4)


def test_calibration_of_a_single_image():
    opened(calibration(metrics.calibration([[0.0, 1.0]], [1])))
    opened(calibration(metrics.calibration(np.zeros((1, 1)), [0])))
