"""The handlers: what the effects mean, who watches, who intervenes, who infers."""

from pyro_gtm.handlers.filtering_guide import FilteringGuide, MissingPosteriorError
from pyro_gtm.handlers.interventions import (
    Intervention,
    freeze_writes,
    lesion_memory,
    swap_contents,
)
from pyro_gtm.handlers.record_memory import record_memory
from pyro_gtm.handlers.scale_latents import scale_latents
from pyro_gtm.handlers.use_memory import use_memory
from pyro_gtm.internals.compiling import CannotCompileError
from pyro_gtm.internals.param_store import StaleParameterError

__all__ = [
    "CannotCompileError",
    "FilteringGuide",
    "Intervention",
    "MissingPosteriorError",
    "StaleParameterError",
    "freeze_writes",
    "lesion_memory",
    "record_memory",
    "scale_latents",
    "swap_contents",
    "use_memory",
]
