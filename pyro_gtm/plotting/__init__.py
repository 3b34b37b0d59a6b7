"""Figures, drawn from recorded arrays and never from models.

Three are the figures of Gemici et al. 2017 (arXiv 1702.04649): learning curves and the KL of each
frame (Figure 4) and sequences beside what a model makes of them (Figure 19).  Two show a memory at
work: where a positional memory looks, and what a memory with slots writes and reads.  One shows
what becomes of recall when the memory is interfered with, and one memories side by side, in the
paper's three panels.

- Arrays are NumPy arrays or torch tensors on any device; time comes first; frames and steps are
  counted from 0; bounds and KL divergences are in nats.
- ``predictable`` says which frames a perfect memory can predict from those before: bool, or the
  share of sequences, in [0, 1], in which that is so.  Such frames are the recall phase, and are
  marked in one colour in every figure.
- Every function returns a :class:`matplotlib.figure.Figure` that no global state knows of: it needs
  no display and no closing.  A wrong shape raises a ValueError that names the argument.

One file a figure.  They share ``style`` (how figures look) and ``arrays`` (what they take), and
import nothing from each other.
"""

from __future__ import annotations

from pyro_gtm.plotting.addressing import memory_over_time
from pyro_gtm.plotting.attention import attention_over_time
from pyro_gtm.plotting.comparison import memories_compared
from pyro_gtm.plotting.interventions import recall_under_interventions
from pyro_gtm.plotting.kl import kl_per_frame
from pyro_gtm.plotting.saving import save
from pyro_gtm.plotting.strips import frame_strips
from pyro_gtm.plotting.training import training_curves

__all__ = [
    "attention_over_time",
    "frame_strips",
    "kl_per_frame",
    "memories_compared",
    "memory_over_time",
    "recall_under_interventions",
    "save",
    "training_curves",
]
