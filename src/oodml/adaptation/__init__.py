"""Few-shot adaptation: improve a model's last layer with a few labeled images of new classes."""

from oodml.adaptation.episodes import AdaptResult, adapt
from oodml.adaptation.heads import Heads, heads_of
from oodml.adaptation.settings import AdaptSettings

__all__ = ["AdaptResult", "AdaptSettings", "Heads", "adapt", "heads_of"]
