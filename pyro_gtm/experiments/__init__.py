"""The kit that runs experiments with the library: settings, run folders, comparisons, figures.

The library itself (`pyro_gtm`'s other packages) knows nothing of it.  Imports nothing here, so
that tasks, which show its data and draw with its plotting, may stand between its parts.
"""
