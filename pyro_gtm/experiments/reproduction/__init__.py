"""The page of results, from a manifest of runs to Markdown.

``manifest`` says which runs there are, ``records`` keeps what came out of each in a small file, and
``page`` makes tables and figures of the records.  ``pyro-gtm reproduce`` trains and writes them.
"""
