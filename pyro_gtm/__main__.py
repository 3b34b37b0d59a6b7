"""``python -m pyro_gtm`` is the command ``pyro-gtm``."""

from pyro_gtm.experiments.cli import main

if __name__ == "__main__":
    main(prog_name="python -m pyro_gtm")
