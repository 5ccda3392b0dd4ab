"""Few-shot adaptation: a few labelled images of new classes make the last layer better."""

from oodml.adaptation.episodes import AdaptResult, adapt
from oodml.adaptation.heads import Heads, heads_of
from oodml.adaptation.settings import AdaptSettings

__all__ = ["AdaptResult", "AdaptSettings", "Heads", "adapt", "heads_of"]
