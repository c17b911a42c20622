"""A classifier from a pretrained network in seconds. Usage: python examples/04_transfer.py [RUNS] [IMAGES]"""

import sys
from pathlib import Path

import convscope


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    data = sys.argv[2] if len(sys.argv) > 2 else "digits"  # a name, a folder with one folder a class, or a table
    limit, side = (600, 64) if data == "digits" else (None, None)

    # Features are recorded once; k-NN, a head and a small network are trained on them, and the best is kept.
    found = convscope.transfer(data, limit=limit, image_size=side, runs=runs)
    print(found.sentence())
    print("test:", found.summary["test_top1"], found.summary["test_low"], found.summary["test_high"])
    for used in found.filters[:3]:
        print(f"{used.name}: filters {used.filters[:3]} of {used.layer}")

    # It is a classifier like any other.
    run = str(found.run.folder)
    image, truth = convscope.save_example(found.dataset, found.run.folder)
    print(f"a {truth}:", convscope.predict(run, [str(image)])[0])
    for row in convscope.similar(run, image, count=3, runs=runs).summary["nearest"]:
        print(f"near: {row['label']} {row['origin']} {row['cosine']:.2f}")

    # The recorded features are an array that can be read in parts: for your own head, say.
    recorded = convscope.features(data, limit=limit, image_size=side)
    print("features:", recorded.extraction.features.array().shape, recorded.extraction.roofline())


if __name__ == "__main__":
    main()
