"""Give a trained model the first frames of new sequences and let its memory supply the rest.

    python examples/generate.py runs/perfect_recall-introspective-seed0

The same command is installed as ``pyro-gtm generate``.
"""

from pyro_gtm.experiments.cli import generate

if __name__ == "__main__":
    generate()
