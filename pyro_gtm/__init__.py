"""Generative temporal models with memory, in Pyro.

A generative temporal model is an ordinary Pyro program that *reads* and *writes* a memory it knows
nothing about; an effect handler wrapped round the program decides what the memory is::

    import pyro_gtm as gtm

    memory = gtm.IntrospectiveMemory(latent_dim=32, slots=16)
    model = gtm.use_memory(memory)(program.model)
    guide = gtm.FilteringGuide(model, program)

Source: Gemici, Hung, Santoro, Wayne, Mohamed, Rezende, Amos, Lillicrap (2017), "Generative
Temporal Models with Memory", arXiv 1702.04649.
"""

from pyro_gtm.handlers import (
    FilteringGuide,
    Unrolling,
    lesion_memory,
    record_memory,
    scale_latents,
    use_memory,
)
from pyro_gtm.infer import (
    CapturedSVI,
    DeviceTrace_ELBO,
    DeviceTraceMeanField_ELBO,
    Evaluation,
    NonFiniteLossError,
    continue_frames,
    evaluate,
    importance_weighted_bound,
    optim,
    reconstruct,
    training_steps,
)
from pyro_gtm.internals.param_store import StaleParameterError
from pyro_gtm.memory import (
    AddressedMemory,
    DNCMemory,
    IntrospectiveMemory,
    LRUMemory,
    MemoryModule,
    MemoryStep,
    NTMMemory,
    RecurrentMemory,
    make_memory,
    memory_names,
    register_memory,
)
from pyro_gtm.model.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood
from pyro_gtm.model.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from pyro_gtm.model.program import GenerativeTemporalModel
from pyro_gtm.ops import NoMemoryError, read, unroll, write

__version__ = "0.1.0"

__all__ = [
    "AddressedMemory",
    "BernoulliLikelihood",
    "CapturedSVI",
    "ConvDecoder",
    "ConvEncoder",
    "DNCMemory",
    "DeviceTraceMeanField_ELBO",
    "DeviceTrace_ELBO",
    "Evaluation",
    "FilteringGuide",
    "GaussianLikelihood",
    "GenerativeTemporalModel",
    "IntrospectiveMemory",
    "LRUMemory",
    "Likelihood",
    "MLPDecoder",
    "MLPEncoder",
    "MemoryModule",
    "MemoryStep",
    "NTMMemory",
    "NoMemoryError",
    "NonFiniteLossError",
    "RecurrentMemory",
    "StaleParameterError",
    "Unrolling",
    "continue_frames",
    "evaluate",
    "importance_weighted_bound",
    "lesion_memory",
    "make_memory",
    "memory_names",
    "optim",
    "read",
    "reconstruct",
    "record_memory",
    "register_memory",
    "scale_latents",
    "training_steps",
    "unroll",
    "use_memory",
    "write",
]
