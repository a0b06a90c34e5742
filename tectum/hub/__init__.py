"""Floor 2: models on disk. `load` opens one by name or folder, `save` writes one, `available` lists those at hand."""

from tectum.hub.folder import load_folder, save
from tectum.hub.names import ModelInfo, available, load

__all__ = ["ModelInfo", "available", "load", "load_folder", "save"]
