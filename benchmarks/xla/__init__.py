"""The models of ``benchmarks/handwritten`` in plain JAX: one program of XLA for a whole step.

A scan over time with as little in it as can be, everything else before or
after it, and the gradient, its clip and Adam in the same program.  What ``step_time.py`` holds the
library against where a compiler sees everything; a test holds its loss and its gradients to be
those of the hand-written networks.

Precision is float32, but for matrix products as ``training.make_step`` says.
"""

from xla.memories import MEMORIES
from xla.model import negative_elbo
from xla.training import Training, begin, make_step
from xla.weights import as_array, as_parameters

__all__ = [
    "MEMORIES",
    "Training",
    "as_array",
    "as_parameters",
    "begin",
    "make_step",
    "negative_elbo",
]
