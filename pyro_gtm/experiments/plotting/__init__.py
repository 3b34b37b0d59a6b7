"""Figures, drawn from recorded arrays and never from models.

Six are the figures of Gemici et al. 2017 (arXiv 1702.04649): learning curves and the KL of each
frame (Figure 4), memories side by side in the paper's three panels (Figures 4 to 17), sequences
beside what a model makes of them (Figures 19 to 27), the cells of a map as they were shown at each
visit (Figure 15), and the second turn of a view under the first (Figure 28).  Three show a memory
at work: the read weights by lag of a positional memory, the writes and reads of a memory with
slots, and the reads of the associative memory with the terms that chose them.  One shows the
addresses of a mixture prior, and one recall under interventions on the memory.

- Arrays are NumPy arrays or torch tensors on any device; time comes first; frames and steps are
  counted from 0; ELBOs and KL divergences are in nats.
- ``predictable`` says which frames a perfect memory can predict from those before: bool, or the
  share of sequences, in [0, 1], in which they are.  Such frames are the recall phase, and are
  marked in one colour in every figure.  ``oracle_kl`` is the KL of a perfect memory.
- Every function returns a :class:`matplotlib.figure.Figure` that no global state knows of: it needs
  no display and no closing, and a notebook shows it.  A wrong shape raises a ValueError that names
  the argument.

One file a figure.  They share ``style`` (how figures look), ``picture`` (what they are), ``arrays``
(what they take) and ``frames`` (images and the sheets they stand on), and import nothing from each
other.
"""

from __future__ import annotations

from pyro_gtm.experiments.plotting.addresses import addresses_over_time
from pyro_gtm.experiments.plotting.addressing import memory_over_time
from pyro_gtm.experiments.plotting.association import association_over_time
from pyro_gtm.experiments.plotting.attention import attention_over_time
from pyro_gtm.experiments.plotting.comparison import memories_compared
from pyro_gtm.experiments.plotting.interventions import recall_under_interventions
from pyro_gtm.experiments.plotting.kl import kl_per_frame
from pyro_gtm.experiments.plotting.map_visits import map_visits
from pyro_gtm.experiments.plotting.saving import save
from pyro_gtm.experiments.plotting.strips import frame_strips
from pyro_gtm.experiments.plotting.training import training_curves
from pyro_gtm.experiments.plotting.turn import turn

__all__ = [
    "addresses_over_time",
    "association_over_time",
    "attention_over_time",
    "frame_strips",
    "kl_per_frame",
    "map_visits",
    "memories_compared",
    "memory_over_time",
    "recall_under_interventions",
    "save",
    "training_curves",
    "turn",
]
