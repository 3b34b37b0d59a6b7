"""Train a generative temporal model and show what its memory recalls.

    python examples/train.py --memory introspective
    python examples/train.py --memory vrnn --seed 1
    python examples/train.py --help

The same command is installed as ``pyro-gtm train``; it lives in ``pyro_gtm/experiments/cli/``.
"""

from pyro_gtm.experiments.cli import train

if __name__ == "__main__":
    train()
