"""A trained model to hand on: weights, settings, figures and a card, without the state of training.

::

    FOLDER/
      README.md       the card: what it is, what it was trained on, what it is worth
      config.json     settings, without paths
      checkpoints/    one, of the weights alone, in half precision
      summary.json    figures of these very weights
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pyro_gtm.experiments.checkpoint_file import checkpoint_path, save_checkpoint
from pyro_gtm.experiments.metrics import assess
from pyro_gtm.experiments.report import summary_table
from pyro_gtm.experiments.run import Run, RunError
from pyro_gtm.experiments.sealed_json import sealed_text
from pyro_gtm.internals.files import write_atomically

__all__ = ["LICENCES", "export_run"]

LICENCES = {
    "digits": "digits of MNIST, (c) Yann LeCun and Corinna Cortes, CC BY-SA 3.0",
    "mnist": "digits of MNIST, (c) Yann LeCun and Corinna Cortes, CC BY-SA 3.0",
    "omniglot": "characters of Omniglot, (c) Brenden Lake, MIT",
    "strokes": "drawn on the spot",
    "rooms": "drawn on the spot",
}
"""Of the images that a model has seen, by the name of their source."""


def export_run(run: Run, folder: Path) -> list[Path]:
    """Write the model of a run to a folder of its own, to be handed on.

    Weights are rounded to half precision, and judged as rounded.

    Args:
        run: with its trained model, which is rounded too.
        folder: empty, or to be made.

    Returns:
        The paths of what is written.

    Raises:
        RunError: the folder holds something, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"output: got {folder}, must be empty or new")
    experiment = run.experiment
    state: dict[str, Any] = {"step": run.step, "window": [0.0, 0]}
    for name, module in (("program", experiment.program), ("memory", experiment.memory)):
        state[name] = _rounded(module)
        module.load_state_dict(state[name])
    config = replace(
        experiment.config, data_dir=None, init_from=None, device="auto", products="auto"
    )
    summary = {
        **run.facts(),
        "init_from": None,  # a path
        **assess(experiment),
        "steps_per_second": None,
        "provenance": run.trained_with,
    }
    checkpoint = checkpoint_path(folder, run.step)
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(checkpoint, state)
        texts = {
            "config.json": config.to_json(),
            "summary.json": sealed_text(summary),
            "README.md": _card(summary, config.num_steps),
        }
        for name, text in texts.items():
            write_atomically(folder / name, text.encode())
    except OSError as error:
        raise RunError(f"output: {folder} cannot be written: {error.strerror}") from error
    return [checkpoint, *(folder / name for name in texts)]


def _rounded(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().cpu().half() if value.is_floating_point() else value.cpu()
        for name, value in module.state_dict().items()
    }


def _updates(summary: dict[str, Any], planned: int) -> str:
    taken = summary["num_steps"]
    return f"{taken:,} updates" + (f" of {planned:,}" if taken < planned else "")


def _card(summary: dict[str, Any], planned: int) -> str:
    """What is to be known of a model before it is used, in Markdown."""
    source = summary["data"]
    licence = LICENCES.get(source, "of its user's own")
    made = summary["provenance"]
    by = (
        "It has no record of where it was trained: its training had not ended."
        if made is None
        else f"Trained {made['date']}, at commit {made['commit']} of pyro_gtm {made['version']}, "
        f"with PyTorch {made['torch']}, on {made['machine']}."
    )
    return f"""# {summary["task"]}, {summary["memory"]} memory, {summary["prior"]} prior

A generative temporal model with memory (Gemici et al. 2017, arXiv 1702.04649) of pyro_gtm. It goes
on with sequences of the task `{summary["task"]}`, and is meant for trying out what a memory does,
and as a start for training (`--init-from`). It knows no images but of its own kind.

- **Data**: the training part of `{source}`: {licence}. Figures are of held-out images.
- **Training**: {_updates(summary, planned)}, seed {summary["seed"]}; see `config.json`.
- **Weights**: {summary["parameters"]:,} numbers in half precision; figures are of these.
- **Licence**: that of pyro_gtm, Apache 2.0.

{by}

```
{summary_table(summary)}
```
"""
