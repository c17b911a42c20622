"""The command line: the table of commands and the one way in. Each command's options stand in its room.

Results go to standard output, notes and progress to standard error; ``--json`` prints JSON and nothing else.
"""

from .application import app as app
from .application import main as main
from .application import run as run
from .commands import COMMANDS as COMMANDS
