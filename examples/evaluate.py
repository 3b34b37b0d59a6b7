"""Judge a trained model on held-out sequences, of the length it was trained on or any other.

    python examples/evaluate.py runs/perfect_recall-introspective-seed0
    python examples/evaluate.py runs/perfect_recall-dnc-seed0 --list-length 20

The same command is installed as ``pyro-gtm evaluate``.
"""

from pyro_gtm.experiments.cli import evaluate

if __name__ == "__main__":
    evaluate()
