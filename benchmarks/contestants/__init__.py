"""Parts of ``step_time.py``.

- ``models``: the networks, with the same weights for all.
- ``steps``: the contestants in PyTorch; a setting of the library is added there, to ``SETTINGS``.
- ``scan``: the contestant in JAX; ``backend``: whether there is one, and how JAX starts.
- ``turns``: what is asked of a contestant, and times in turns.
- ``roofline``: the least time that arithmetic and traffic take.
"""
