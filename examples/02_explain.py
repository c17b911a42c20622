"""Train on handwritten digits, and look at what the filters learned. Usage: python examples/02_explain.py [RUNS]"""

import sys
from pathlib import Path

import convscope


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    run = convscope.train("digits", epochs=4, width=16, runs=runs).run

    # Every filter of every layer; in a notebook the result shows six filters of each.
    explained = convscope.explain(str(run.folder), layer=["conv1", "conv2"])
    for summary in explained.summary["layers"]:
        print(f"{summary['layer']}: {summary['filters']} filters, {len(summary['dead'])} dead, page {explained.folder}")

    # One card: frozen dataclasses with every number, and the same in words.
    card = explained.card("conv1", 3)
    (explained.folder / "card.png").write_bytes(card.drawing.png)
    print("\n".join(card.card.sentences()))
    print("its best image reaches", card.card.exemplars[0].value, "in", card.card.exemplars[0].origin)

    # Why is this image taken for what it is?
    image, truth = convscope.save_example(convscope.load_dataset("digits"), run.folder)
    taken = convscope.explain_image(str(run.folder), image)
    found = taken.summary
    print(f"a handwritten {truth}: {found['target']} leads {found['against']} by {found['lead']:.2f}")
    for term in found["terms"][:3]:
        print(f"filter {term['filter']} of {found['layer']} adds {term['margin']:+.2f}")


if __name__ == "__main__":
    main()
