"""Why does a deep plain network not learn, and its residual twin does? Usage: python examples/03_diagnose.py [RUNS]"""

import sys
from pathlib import Path

import convscope


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else None

    # Before any training: what will happen to the gradient on its way back through 29 factors?
    for model in ("plain56", "resnet56"):
        fresh = convscope.diagnose(model, "digits", images=1, runs=runs)
        print(f"{model}: {fresh.sentence()}")

    # A training that is watched, every tenth step, and then diagnosed from its first weights on.
    run = convscope.train("digits", model="resnet20", width=8, epochs=2, image_size=16, watch=True, runs=runs).run
    found = convscope.diagnose(str(run.folder), norm="bn1:0", images=2)
    print(found.sentence())
    for when, state in found.states.items():
        print(when, "loss", state.gradients.loss, "gradient left at the images", state.gradients.reach)

    # Every number is there: of a block, what is added (J_F) and the sum (I + J_F).
    for block in found.summary["states"]["now"]["jacobians"][1:4]:
        print(f"{block['name']}: |J_F| {block['branch_norm']:.2f}, |I + J_F| {block['total_norm']:.2f}")
    print(f"updates: {found.verdict.evidence.update:.4f} of a weight a step; images in {found.folder}")


if __name__ == "__main__":
    main()
