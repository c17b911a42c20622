"""Train on handwritten digits, evaluate, and ask about one image. Usage: python examples/01_train.py [RUNS]"""

import sys
from pathlib import Path

import convscope


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else None

    # The loop is a generator: what stands in the body of the `for` watches the training.
    session = convscope.prepare_training("digits", epochs=4, width=16, runs=runs)
    for event in session.events():
        if isinstance(event, dict):  # an epoch's row; everything else is a single update
            print(f"epoch {event['epoch']}: {100 * event['val_top1']:.1f} % of the validation images right")

    # The test images are opened once, at the end.
    result = convscope.evaluate("last", runs=runs)
    low, high = result.summary["top1_low"], result.summary["top1_high"]
    print(f"test: {100 * result.summary['top1']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")

    # A classifier is asked about files; here about one of its own test images.
    image, truth = convscope.save_example(session.dataset, session.run.folder)
    answer = convscope.predict("last", [str(image)], runs=runs)[0]
    print(f"a handwritten {truth}: {answer}")


if __name__ == "__main__":
    main()
