"""`convscope demo`: the main job on built-in data, step by step."""

from __future__ import annotations

from pathlib import Path

from .evaluate import print_evaluation
from .explain import layer_line, print_explanation
from .predict import print_predictions
from .train import show_training


def demo(*, runs: Path | None = None) -> None:
    """The main job on built-in data, offline, in a few minutes: train on handwritten digits, evaluate, predict.

    Parameters
    ----------
    runs
        The folder of runs.
    """
    from .. import commands

    print("1. Train the lecture's network on 1,797 real handwritten digits (convscope train digits)")
    session = commands.prepare_training(commands.TrainRequest("digits", recipe="digits", runs=runs))
    show_training(session, json=False)
    run = session.run
    print(f"\n2. Open the test images, which no choice was made on (convscope evaluate {run.folder})")
    result = commands.evaluate(str(run.folder))
    print_evaluation(result.summary, result.folder)
    example, truth = commands.save_example(session.dataset, run.folder)
    print(f"\n3. Ask about one image, a handwritten {truth} (convscope predict {run.folder} {example})")
    print_predictions([p.to_json() for p in commands.predict(str(run.folder), [str(example)])])
    print(f"\n4. See what each filter learned (convscope explain {run.folder})")
    explained = commands.explain(str(run.folder), on_layer=layer_line)
    print_explanation(explained.summary)
    print(f"\nOpen {run.folder / 'report.html'} in a browser. Then try your own images, one folder a class:")
    print("convscope train FOLDER")
