"""The README's Python runs, each block alone, as a reader would paste it."""

from __future__ import annotations

import re
from pathlib import Path

import pyro
import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_python_blocks_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 2
    defined: dict[str, object] = {}
    for block in blocks:
        names: dict[str, object] = {}
        pyro.clear_param_store()
        exec(compile(block, "README.md", "exec"), names)
        defined |= names
    defined["my_model"](torch.zeros(3, 2, 2))  # type: ignore[operator]
    assert isinstance(defined["loss"], float)
    assert defined["dreamt"].shape == (20, 8, 1, 28, 28)  # type: ignore[attr-defined]
