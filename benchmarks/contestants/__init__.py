"""What ``step_time.py`` is made of: the contestants, and what is measured of them.

- ``models``: the networks, with the same weights for all.
- ``steps``: the contestants in PyTorch; a setting of the library is added there, to ``SETTINGS``.
- ``scan``: the contestant in JAX; ``backend``: whether there is one, and how JAX starts.
- ``measure``: time in turns, and peak memory.
- ``floor``: the least time that the arithmetic takes.
- ``parts``: where the time of a step goes.
"""
