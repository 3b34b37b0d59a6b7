"""Generative temporal models with memory, in Pyro.

A generative temporal model is an ordinary Pyro program that *reads* and *writes* a memory it knows
nothing about; an effect handler wrapped round the program decides what the memory is::

    import pyro_gtm as gtm

    memory = gtm.IntrospectiveMemory(latent_dim=32, slots=16)
    model = gtm.use_memory(memory)(program.model)
    guide = gtm.FilteringGuide(model)

Here is what a user composes with; ``gtm.handlers``, ``gtm.memory``, ``gtm.model`` and ``gtm.infer``
hold the rest.  The experiments of the command line live in ``pyro_gtm.experiments``, which the
library knows nothing of.

Source: Gemici, Hung, Santoro, Wayne, Mohamed, Rezende, Amos, Lillicrap (2017), "Generative
Temporal Models with Memory", arXiv 1702.04649.
"""

from pyro_gtm import handlers, infer, memory, model
from pyro_gtm.handlers import (
    FilteringGuide,
    freeze_writes,
    lesion_memory,
    record_memory,
    swap_contents,
    use_memory,
)
from pyro_gtm.infer import continue_frames, evaluate, reconstruct
from pyro_gtm.internals.products import set_products
from pyro_gtm.internals.unrolling import Unrolling
from pyro_gtm.memory import (
    AssociativeMemory,
    DNCMemory,
    IntrospectiveMemory,
    LRUMemory,
    MemoryModule,
    NTMMemory,
    RecurrentMemory,
    make_memory,
    register_memory,
)
from pyro_gtm.model import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    GaussianMixtureLikelihood,
    GenerativeTemporalModel,
    MixturePrior,
    NegativeBinomialLikelihood,
    PoissonLikelihood,
    StudentTLikelihood,
    mixture_prior,
)
from pyro_gtm.ops import begin, read, recall, unroll, write

__version__ = "0.1.0"

__all__ = [
    "AssociativeMemory",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "DNCMemory",
    "FilteringGuide",
    "GaussianLikelihood",
    "GaussianMixtureLikelihood",
    "GenerativeTemporalModel",
    "IntrospectiveMemory",
    "LRUMemory",
    "MemoryModule",
    "MixturePrior",
    "NTMMemory",
    "NegativeBinomialLikelihood",
    "PoissonLikelihood",
    "RecurrentMemory",
    "StudentTLikelihood",
    "Unrolling",
    "begin",
    "continue_frames",
    "evaluate",
    "freeze_writes",
    "handlers",
    "infer",
    "lesion_memory",
    "make_memory",
    "memory",
    "mixture_prior",
    "model",
    "read",
    "recall",
    "reconstruct",
    "record_memory",
    "register_memory",
    "set_products",
    "swap_contents",
    "unroll",
    "use_memory",
    "write",
]
