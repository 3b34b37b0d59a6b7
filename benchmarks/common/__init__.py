"""Parts that the scripts share.

- ``command_line``: options that several of them have, and how bad input is refused.
- ``measure``: peak memory, and ratios of times.
- ``memories``: a memory by its name, with the options that it knows.
"""
