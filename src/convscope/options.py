"""Options that commands share."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

Flag = Annotated[bool, Parameter(negative=())]
Part = Literal["train", "val", "test", "all"]
Views = Literal["none", "flip", "shift", "flip-shift"]
Engines = Literal["auto", "torch", "onnxruntime"]
STANDARD_INPUT = "standard input"  # what the parser is given instead of "-", to it an unknown option
