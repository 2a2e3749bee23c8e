"""Voice toxicity detection with multi-task learning (Nandwana et al., 2024)."""

import importlib
import os
from typing import Any


WITHOUT_MODELS = "TOXMTL_WITHOUT_MODELS"  # set for workers of `data/`, most of which need no PyTorch: it takes seconds

if WITHOUT_MODELS not in os.environ:
    from .auto import *  # noqa: F403  with it, transformers' Auto classes and pipelines know our models
    from .auto import __all__  # noqa: F401


def __getattr__(name: str) -> Any:
    """What such a worker asks for nevertheless."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".auto", __name__), name)
