"""Sizes that no machine holds end in one sentence, with what to lower."""

from __future__ import annotations

import pytest

resource = pytest.importorskip("resource")

ROOM = 6 * 2**30
"""Bytes that the process may have: no test is to fill the machine."""

ABSURD = {
    "--batch-size 1000000000": "batch_size",
    "--batch-size 3000000": "batch_size",
    "--eval-sequences 1000000000": "eval_sequences",
    "--hidden-dim 100000000": "hidden_dim",
    "--hidden-dim 30000": "hidden_dim",
    "--latent-dim 1000000000": "latent_dim",
    "--list-length 100000000": "list",
    "--memory ntm --memory-option slots=1000000000": "slots",
    "--memory ntm --memory-option slots=3000000": "slots",
    "--memory dnc --memory-option slots=100000": "slots",
}


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ABSURD)
def test_what_does_not_fit(sizes, tmp_path, command, tally):
    def prepare():
        resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))

    ended = command(f"train --preset debug {sizes} --output {tmp_path / 'run'}", prepare)
    *_, sentence = ended.output.splitlines()
    assert ended.code in (1, 2), ended.output
    assert sentence.startswith("Error: ") and "Traceback" not in ended.output
    assert ABSURD[sizes] in sentence
    tally(f"`{sizes}`", 1, sentence.removeprefix("Error: ").replace(str(tmp_path) + "/", ""))
