"""Continue held-out sequences with a trained model; without a run, with one that comes along.

    python examples/generate.py
    python examples/generate.py --pretrained mnist_map
    python examples/generate.py runs/perfect_recall-introspective-seed0

The same command is installed as ``pyro-gtm generate``; it lives in ``pyro_gtm/experiments/cli/``.
"""

from pyro_gtm.experiments.cli import generate

if __name__ == "__main__":
    generate()
