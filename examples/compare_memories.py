"""Train all memories with several seeds and put them side by side: a table and a figure.

    python examples/compare_memories.py --jobs 2
    python examples/compare_memories.py --memory vrnn --memory dnc --seeds 1 --num-steps 500
    python examples/compare_memories.py --help

The same command is installed as ``pyro-gtm compare``; it lives in ``pyro_gtm/experiments/cli/``.
"""

from pyro_gtm.experiments.cli import compare

if __name__ == "__main__":
    compare()
