"""The sources of the tasks' frames: labelled image sets, and rooms to turn round in.

One file a source; each gives a train and a test part that share nothing. Nothing here knows of
tasks, models or Pyro. A new source is a :class:`DataSource` with ``@register_data("name")`` above.
"""

from __future__ import annotations

from pyro_gtm.experiments.data.digits import load_digits
from pyro_gtm.experiments.data.images import (
    BINARISATIONS,
    ImageSet,
    ImageSplits,
    MissingDataError,
    prepare,
    with_shifts,
)
from pyro_gtm.experiments.data.mnist import load_mnist
from pyro_gtm.experiments.data.omniglot import load_omniglot
from pyro_gtm.experiments.data.recordings import Recordings, load_recordings, save_recordings
from pyro_gtm.experiments.data.rooms import Rooms
from pyro_gtm.experiments.data.sources import (
    SOURCES,
    DataSource,
    load_data,
    register_data,
    usable_sources,
)
from pyro_gtm.experiments.data.strokes import load_strokes

__all__ = [
    "BINARISATIONS",
    "SOURCES",
    "DataSource",
    "ImageSet",
    "ImageSplits",
    "MissingDataError",
    "Recordings",
    "Rooms",
    "load_data",
    "load_digits",
    "load_mnist",
    "load_omniglot",
    "load_recordings",
    "load_strokes",
    "prepare",
    "register_data",
    "save_recordings",
    "usable_sources",
    "with_shifts",
]
