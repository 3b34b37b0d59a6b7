"""Processes whose likelihood is known, and what simple models make of them.

- ``regimes``: autoregressions that switch, and their exact likelihood.
- ``sines``: noisy sines with gaps.
- ``simple``: one Gaussian for all frames, and a linear autoregression.
"""

from __future__ import annotations

from processes.regimes import Regimes
from processes.sample import Process, Sample
from processes.simple import Autoregression, Marginal
from processes.sines import Sines

__all__ = ["PROCESSES", "Autoregression", "Marginal", "Process", "Regimes", "Sample", "Sines"]

PROCESSES: dict[str, type[Process]] = {"regimes": Regimes, "sines": Sines}
"""By their names on the command line."""
