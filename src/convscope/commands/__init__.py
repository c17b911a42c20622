"""One function a command: what the command line and Python call. Takes names, returns results, prints nothing."""

from .diagnose import diagnose as diagnose
from .explain import explain as explain
from .explain import explain_image as explain_image
from .export import ExportReport as ExportReport
from .export import export as export
from .features import FeaturesReport as FeaturesReport
from .features import features as features
from .features import similar as similar
from .features import transfer_backbone as transfer_backbone
from .main import TrainRequest as TrainRequest
from .main import evaluate as evaluate
from .main import load_dataset as load_dataset
from .main import model_list as model_list
from .main import model_rules as model_rules
from .main import model_table as model_table
from .main import open_classifier as open_classifier
from .main import predict as predict
from .main import prepare_training as prepare_training
from .main import pretrained_list as pretrained_list
from .main import preview as preview
from .main import save_example as save_example
from .main import train as train
from .study import find_claims as find_claims
from .study import study as study
from .transfer import transfer as transfer
