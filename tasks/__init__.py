"""The tasks of the paper: sequences of images whose end can be told from their past.

Installed as `pyro_gtm.tasks`. One file a task; it registers itself under the name that the
command line uses. To add one, copy `perfect_recall.py` and import it here. Tasks know nothing of
models.
"""

from __future__ import annotations

from pyro_gtm.tasks.base import Sequences, Task, make_task, register_task, task_class, task_names
from pyro_gtm.tasks.perfect_recall import PerfectRecall

__all__ = [
    "PerfectRecall",
    "Sequences",
    "Task",
    "make_task",
    "register_task",
    "task_class",
    "task_names",
]
