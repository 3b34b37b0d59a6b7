"""Whether JAX can take part, and how it is to start: what is to be known before it is imported."""

from __future__ import annotations

import importlib.util
import os

import torch


def configure(threads: int) -> None:
    """Before JAX's first array: as many threads as PyTorch has, device memory as it is needed."""
    os.environ["PJRT_NPROC"] = str(threads)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"


def why_not(device: torch.device) -> str | None:
    """A sentence why JAX cannot take part on this device, or None if it can."""
    if importlib.util.find_spec("jax") is None:
        return "JAX is not installed; it comes with pip install -e '.[benchmark]'."
    import jax

    if device.type == "cuda" and "gpu" not in {found.platform for found in jax.devices()}:
        return "JAX finds no GPU; its packages for one are jax[cuda12] and jax[cuda13]."
    return None
