"""What ``import pyro_gtm`` loads, which every user of it waits for."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("matplotlib", "torch._dynamo", "sympy", "pandas", "PIL", "pyro_gtm.experiments")
"""Tenths of a second to a second each, and needed for figures, compiling and experiments alone."""

SCRIPT = f"""
import sys
import pyro_gtm
print(*[name for name in {SLOW!r} if name in sys.modules])
"""


def test_nothing_slow_is_loaded_that_the_library_does_not_need():
    command = [sys.executable, "-c", SCRIPT]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
