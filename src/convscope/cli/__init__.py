"""The command line: a file a command, which parses, makes one library call and prints. torch comes when needed.

Results go to standard output, notes and progress to standard error; ``--json`` prints JSON and nothing else.
"""

from .application import app as app
from .application import main as main
from .application import run as run
from .demo import demo as demo
from .diagnose import diagnose as diagnose
from .evaluate import evaluate as evaluate
from .explain import explain as explain
from .export import export as export
from .features import features as features
from .models import models as models
from .predict import predict as predict
from .similar import similar as similar
from .study import study as study
from .train import train as train
from .transfer import transfer as transfer
