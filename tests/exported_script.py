"""The script beside an exported file, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_script(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a user does, and fail if it imported what it must not need."""
    script = folder / "net.predict.py"
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert not {'torch', 'convscope', 'torchvision', 'timm'} & set(sys.modules)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        errors="replace",
        env=os.environ | environment,
    )
