"""Models of chorales on one footing: see ``chorales.py``.

- ``pieces``: what a model of music is given, and batches of it.
- ``contestants``: what every contestant has, and how it is trained and judged.
- ``dmm``: the deep Markov model, written anew.
- ``ours``: programs with a memory.
"""
