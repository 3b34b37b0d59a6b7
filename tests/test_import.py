"""What importing the library, and training with it, do not wait for."""

from __future__ import annotations

import subprocess
import sys

COMPILER = ("torch._dynamo", "sympy")
SLOW = ("matplotlib", "pandas", "PIL", "pyro_gtm.experiments", *COMPILER)
"""Tenths of a second to a second each, and needed for figures, compiling and experiments alone."""

TRAIN = """
import torch
from pyro.infer import SVI
import pyro_gtm as gtm

gtm.set_products("auto")
memory = gtm.IntrospectiveMemory(latent_dim=2, slots=3, hidden_dim=4)
likelihood = gtm.GaussianLikelihood((2,))
encoder, decoder = gtm.model.networks.make_networks(
    "mlp", likelihood, hidden_dim=4, decoder_input_dim=2 + memory.context_dim
)
program = gtm.GenerativeTemporalModel(
    context_dim=memory.context_dim,
    latent_dim=2,
    encoder=encoder,
    decoder=decoder,
    likelihood=likelihood,
)
model = gtm.use_memory(memory)(program.model)
svi = SVI(model, gtm.FilteringGuide(model), gtm.infer.FusedAdam(), gtm.infer.DeviceTrace_ELBO())
batch = gtm.infer.Batch(torch.randn(4, 3, 2))
list(gtm.infer.training_steps(svi, lambda: batch, num_steps=2))
"""


def modules_after(code: str) -> set[str]:
    """Which of the slow ones a process of its own has imported."""
    script = f"import sys\n{code}\nprint(*[name for name in {SLOW!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=300
    )
    return set(run.stdout.split())


def test_nothing_slow_is_loaded_that_the_library_does_not_need():
    assert not modules_after("import pyro_gtm")


def test_training_waits_for_no_compiler():
    assert not modules_after(TRAIN) & set(COMPILER)
