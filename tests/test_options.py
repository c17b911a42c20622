"""Options are declared once: each has its help beside it, and what Python takes is what the command line takes."""

from __future__ import annotations

from convscope.recipes import OPERATIONS

# The dial --augment sets these together; they are in the recipe so that a run says what was done.
BEHIND_THE_DIAL = {*OPERATIONS, "tiles", "fused", "sides"}
AS_ONE_TABLE = {"renamed"}  # of the options merge and rename
# How an answer is shown, and what is only tried, is for the command line alone.
ONLY_TYPED = {"json", "preview", "dry_run", "hardware", "price_per_hour", "csv", "html", "list", "fix"}
