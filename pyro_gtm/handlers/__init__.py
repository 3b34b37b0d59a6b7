"""The handlers: what ``read`` and ``write`` mean, who watches, who interferes, who infers."""

from pyro_gtm.handlers.filtering_guide import FilteringGuide
from pyro_gtm.handlers.lesion_memory import lesion_memory
from pyro_gtm.handlers.record_memory import record_memory
from pyro_gtm.handlers.unrolling import Unrolling
from pyro_gtm.handlers.use_memory import use_memory
from pyro_gtm.handlers.weigh_latents import weigh_latents

__all__ = [
    "FilteringGuide",
    "Unrolling",
    "lesion_memory",
    "record_memory",
    "use_memory",
    "weigh_latents",
]
