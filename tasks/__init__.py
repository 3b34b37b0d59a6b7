"""The tasks of the paper: sequences of images whose end can be told from their past.

Installed as ``pyro_gtm.tasks``.  One file a task; it registers itself under the name that the
command line uses.  To add one, copy ``perfect_recall.py`` and import it here.  Tasks know nothing
of models.
"""

from __future__ import annotations

from pyro_gtm.tasks.base import (
    ImageTask,
    NewFrameKL,
    Sequences,
    Task,
    make_task,
    register_task,
    task_class,
    task_names,
)
from pyro_gtm.tasks.dynamic_dependency import DynamicDependency
from pyro_gtm.tasks.lists import ListTask
from pyro_gtm.tasks.mnist_map import MNISTMap
from pyro_gtm.tasks.one_shot_recall import OneShotRecall
from pyro_gtm.tasks.parity_recall import ParityRecall
from pyro_gtm.tasks.perfect_recall import PerfectRecall
from pyro_gtm.tasks.rotation_3d import Rotation3D
from pyro_gtm.tasks.similarity_cued_recall import SimilarityCuedRecall

__all__ = [
    "DynamicDependency",
    "ImageTask",
    "ListTask",
    "MNISTMap",
    "NewFrameKL",
    "OneShotRecall",
    "ParityRecall",
    "PerfectRecall",
    "Rotation3D",
    "Sequences",
    "SimilarityCuedRecall",
    "Task",
    "make_task",
    "register_task",
    "task_class",
    "task_names",
]
