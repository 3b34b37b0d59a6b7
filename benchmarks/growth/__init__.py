"""What ``memory_growth.py`` is made of.

- ``sizes``: what grows, how far, and how cost should grow with it.
- ``cost``: time and peak memory of a sequence.
- ``curves``: measurements of one memory while one size grows, as table and CSV.
- ``figure``: the same as a picture.
"""
