"""What a network learned: exemplars, words, ablation, maximization, maps, evidence, probes; put together as cards.

Any ``nn.Module`` is taken as it is. ``explaining`` runs everything; each of the other modules can be used alone.
"""

from .attribution import METHODS as METHODS
