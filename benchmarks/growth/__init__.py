"""Parts of ``memory_growth.py``.

- ``sequences``: what grows and how far; time and peak memory of a sequence.
- ``curves``: measurements of one memory while one size grows, and their table.
- ``figure``: the same as a picture.
"""
