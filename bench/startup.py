"""How fast the command line answers: `convscope --help` in fresh processes, against a process that imports torch.

Claim: under 0.5 seconds, because torch is imported only when it is needed.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
from paired import abba, arguments, median_ratio, tell

TARGET = 0.5  # seconds


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__)

    def ours() -> float:
        return seconds("-m", "convscope", "--help")

    def peer() -> float:
        return seconds("-c", "import torch")

    ours(), peer()
    mine, theirs = abba(ours, peer, 1 if options.quick else 8)
    ratio, low, high = median_ratio(mine, theirs)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "ours": float(np.median(mine)),
        "peer": float(np.median(theirs)),
        "unit": "seconds",
        "better": "lower",
        "target": TARGET,
        "slowest": float(mine.max()),
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
