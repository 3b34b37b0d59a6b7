"""The models of this library as one writes them without it: ``torch.nn`` and plain loops.

No Pyro, no handlers, nothing imported from ``pyro_gtm``; one batch dimension, no controls, the
options fixed.  What ``step_time.py`` holds the library against.
"""

from handwritten.memories import MEMORIES, Sizes
from handwritten.model import Networks, negative_elbo

__all__ = ["MEMORIES", "Networks", "Sizes", "negative_elbo"]
