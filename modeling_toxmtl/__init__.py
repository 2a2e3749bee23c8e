"""Voice toxicity detection with multi-task learning (Nandwana et al., 2024)."""

import importlib
import os
from importlib.util import find_spec
from typing import Any


WITHOUT_MODELS = "TOXMTL_WITHOUT_MODELS"  # set for workers of `data/`, most of which need no PyTorch: it takes seconds

# an exported model runs where they are not installed
if WITHOUT_MODELS not in os.environ and find_spec("torch") and find_spec("transformers"):
    from .auto import *  # noqa: F403  with it, transformers' Auto classes and pipelines know our models
    from .auto import __all__  # noqa: F401


def __getattr__(name: str) -> Any:
    """What such a worker asks for nevertheless, and the runtime."""
    if not name[0].isupper():  # a module, which Python looks for next
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".runtime" if name == "ToxicityRuntime" else ".auto"
    return getattr(importlib.import_module(module, __name__), name)
