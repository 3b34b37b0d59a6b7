"""The handlers: what ``read`` and ``write`` mean, who watches, who interferes, who infers."""

from pyro_gtm.handlers.filtering_guide import FilteringGuide
from pyro_gtm.handlers.interventions import lesion_memory
from pyro_gtm.handlers.record_memory import record_memory
from pyro_gtm.handlers.scale_latents import scale_latents
from pyro_gtm.handlers.use_memory import use_memory
from pyro_gtm.internals.unrolling import Unrolling

__all__ = [
    "FilteringGuide",
    "Unrolling",
    "lesion_memory",
    "record_memory",
    "scale_latents",
    "use_memory",
]
