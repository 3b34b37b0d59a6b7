"""The README's Python runs, block after block, as a reader would paste it."""

from __future__ import annotations

import re
from pathlib import Path

import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_python_blocks_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    names["my_model"](torch.zeros(3, 2, 2))  # type: ignore[operator]
    assert isinstance(names["loss"], float)
    assert names["dreamt"].shape == (20, 8, 1, 28, 28)  # type: ignore[attr-defined]
