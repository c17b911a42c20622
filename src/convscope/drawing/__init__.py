"""Results as images: plain numbers and names in, a PNG out. The only module that draws.

Figures are made without pyplot and always in one style, whatever the user's matplotlib settings say, so the same
result gives the same bytes. Names are drawn as they are: a "$" starts no formula, and a character that no installed
font has becomes a replacement sign. Blue is right or validation, orange is wrong or training; every such pair also
differs in lightness or form (palette of Okabe and Ito 2008, made for colour-blind readers).
"""

from __future__ import annotations

from .canvas import Drawing as Drawing
from .diagnose import NormImage as NormImage
from .diagnose import Way as Way
from .diagnose import factors as factors
from .diagnose import norm as norm
from .diagnose import watched as watched
from .explain import Row as Row
from .explain import attributions as attributions
from .explain import card_rows as card_rows
from .explain import map_grid as map_grid
from .explain import map_summary as map_summary
from .explain import outlined as outlined
from .explain import probes as probes
from .explain import sprite as sprite
from .explain import stacked as stacked
from .scores import calibration as calibration
from .scores import confusion as confusion
from .sheets import image_grid as image_grid
from .study import Curve as Curve
from .study import Quantity as Quantity
from .study import claim as claim
from .study import profiles as profiles
from .training import curves as curves
from .training import rate_range as rate_range
from .transfer import FilterRow as FilterRow
from .transfer import Step as Step
from .transfer import ladder as ladder
from .transfer import learning_curve as learning_curve
from .transfer import path as path
from .transfer import used_filters as used_filters
