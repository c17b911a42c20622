"""`convscope demo`: the main job on built-in data, step by step."""

from __future__ import annotations

from ..evaluation.cli import print_evaluation, print_predictions
from ..explanation.cli import show_explanation
from ..options import Flat, Runs
from ..spoken import quoted
from ..training.cli import show_training


def demo(*, options: Flat[Runs] = Runs()) -> None:
    """The main job on built-in data, offline, in a few minutes: train on handwritten digits, evaluate, predict."""
    from ..evaluation.command import evaluate, predict, save_example
    from ..explanation.command import explaining
    from ..training.command import prepare_training

    print("1. Train the lecture's network on 1,797 real handwritten digits (convscope train digits)")
    session = prepare_training("digits", recipe="digits", runs=options.runs)
    show_training(session, json=False)
    run = session.run
    print(f"\n2. Open the test images, which no choice was made on (convscope evaluate {quoted(run.folder)})")
    result = evaluate(str(run.folder))
    print_evaluation(result.summary, result.folder)
    example, truth = save_example(session.dataset, run.folder)
    print(f"\n3. Ask about one image, a handwritten {truth} (convscope predict {quoted(run.folder)} {quoted(example)})")
    print_predictions([p.to_json() for p in predict(str(run.folder), [str(example)])])
    print(f"\n4. See what each filter learned (convscope explain {quoted(run.folder)})")
    show_explanation(explaining(str(run.folder)), json=False)
    print(f"\nOpen {run.folder / 'report.html'} in a browser. Then try your own images, one folder a class:")
    print("convscope train FOLDER")
