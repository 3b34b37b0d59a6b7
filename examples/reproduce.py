"""Train what docs/results.md is made of, or some rows of it, and write the page.

    python examples/reproduce.py --list
    python examples/reproduce.py --row similarity_cued_recall-associative+mixture
    python examples/reproduce.py --budget hours --mnist DIR --omniglot DIR --jobs 2

The same command is installed as ``pyro-gtm reproduce``; it lives in ``pyro_gtm/experiments/cli/``.
"""

from pyro_gtm.experiments.cli import reproduce

if __name__ == "__main__":
    reproduce()
