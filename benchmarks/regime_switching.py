"""Does a model learn a plain real-valued series?  One that switches between regimes.

    python benchmarks/regime_switching.py
    python benchmarks/regime_switching.py --memory vrnn --memory dnc --seeds 3
    python benchmarks/regime_switching.py --memory vrnn --writes latent
    python benchmarks/regime_switching.py --series sines

Negative ELBOs of held-out series, in nats a frame and in the units of the data, after training from
scratch with the defaults of ``pyro_gtm.series`` or, by an option, without one of them.  A negative
ELBO is no less than the negative log-likelihood, which stands in the lines above:

- *marginal*: one Gaussian for all frames;
- *AR(1)*: a linear map of the last frame with Gaussian errors, by least squares;
- *exact*: the process itself, its hidden regime inferred from the past.  No model can be better;
- *regime known*: the noise alone, were the regime no secret.

In ``sines``, with no regime, *noise alone* takes the place of the last two.  Beside the bound
stands its KL: near zero, the latents are not used.  Seconds are of the processor, one thread.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

import click
import pyro
import torch
from pyro.infer import SVI
from torch import Tensor

import pyro_gtm as gtm
from common.command_line import command, memories_option, refusing_bad_input, size_option
from common.memories import build_memory
from processes import PROCESSES, Autoregression, Marginal, Process, Sample
from pyro_gtm.infer import FusedAdam, LearningRate, training_steps
from pyro_gtm.infer.batch import Batch
from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.model import Posterior, Writes
from pyro_gtm.model.networks import make_networks
from pyro_gtm.series.settings import Settings

DEFAULTS = Settings()
TRAINED_ON, HELD_OUT = 512, 256
TRAINING_SEED, HELD_OUT_SEED = 1, 2
MOST_SLOTS = 16
"""Of the memories with slots to write to; buffers hold the whole series."""

BUFFERS = ("associative", "introspective")
MARKS = (100, 200, 400, 700, 1_000, 1_500)
"""Steps after which a run is judged, besides the last."""


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained, but for its memory."""

    writes: Writes = "latent+frame"
    posterior: Posterior = "residual"
    elbo: str = DEFAULTS.elbo
    learning_rate: float = DEFAULTS.learning_rate
    num_steps: int = DEFAULTS.num_steps
    annealing: int | None = None
    """Steps of KL annealing; None for a quarter of all."""
    raw: bool = False
    """Whether the model is given the series in their own units."""
    max_scale: float = 3.0
    """Of the Gaussian likelihood, in the units that the model is given."""


class Score(NamedTuple):
    """Nats a frame, held out, in the units of the data."""

    negative_elbo: float
    kl: float


class Run:
    """One model of a process.

    Args:
        memory: its name.
        recipe: the rest.
        trained_on, held_out: series.
        seed: of the weights and of the batches.
    """

    def __init__(
        self, memory: str, recipe: Recipe, trained_on: Sample, held_out: Sample, seed: int
    ) -> None:
        self.recipe = recipe
        self.rate = LearningRate(
            recipe.learning_rate, num_steps=recipe.num_steps, schedule="cosine"
        )
        observed = trained_on.frames[trained_on.there]  # (N, C)
        location, scale = observed.mean(0), observed.std(0)
        if recipe.raw:
            location, scale = torch.zeros_like(location), torch.ones_like(scale)
        self.log_scale = scale.log().sum().item()
        self.trained_on, self.held_out = (
            Sample(((sample.frames - location) / scale).float(), sample.there)
            for sample in (trained_on, held_out)
        )
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        steps, _, channels = trained_on.frames.shape
        likelihood = gtm.GaussianLikelihood((channels,), min_scale=0.02, max_scale=recipe.max_scale)
        self.memory = build_memory(
            memory,
            latent_dim=gtm.GenerativeTemporalModel.written_dim(
                DEFAULTS.latent_dim, DEFAULTS.hidden_dim, recipe.writes
            ),
            hidden_dim=DEFAULTS.hidden_dim,
            slots=steps if memory in BUFFERS else MOST_SLOTS,
        )
        encoder, decoder = make_networks(
            "mlp",
            likelihood,
            hidden_dim=DEFAULTS.hidden_dim,
            decoder_input_dim=DEFAULTS.latent_dim + self.memory.context_dim,
        )
        program = gtm.GenerativeTemporalModel(
            context_dim=self.memory.context_dim,
            latent_dim=DEFAULTS.latent_dim,
            encoder=encoder,
            decoder=decoder,
            likelihood=likelihood,
            writes=recipe.writes,
            posterior=recipe.posterior,
        )
        self.guide = gtm.FilteringGuide(gtm.use_memory(self.memory)(program.model))
        self.draws = torch.Generator().manual_seed(seed)

    def train(self, name: str) -> tuple[Score, float]:
        """Train to the end: the last score, and seconds of the processor without the scores."""
        recipe = self.recipe
        optimizer = FusedAdam(lr=recipe.learning_rate, clip_norm=DEFAULTS.clip_norm)
        svi = SVI(self.guide.model, self.guide, optimizer, ELBOS.make(recipe.elbo))
        annealing = recipe.num_steps // 4 if recipe.annealing is None else recipe.annealing
        steps = training_steps(
            svi,
            self.draw,
            num_steps=recipe.num_steps,
            kl_annealing=annealing,
            learning_rate=self.rate,
        )
        begun, judging = time.process_time(), 0.0
        for step, _ in steps:
            if step in MARKS and step < recipe.num_steps:
                paused = time.process_time()
                score = self.score()
                click.echo(f"  {name} step {step:,}: {score.negative_elbo:.3f}, KL {score.kl:.3f}")
                judging += time.process_time() - paused
        seconds = time.process_time() - begun - judging
        return self.score(), seconds

    def draw(self) -> Batch:
        """Series of a batch; with a mask where some frames are missing."""
        frames, there = self.trained_on
        picked = torch.randint(frames.shape[1], (DEFAULTS.batch_size,), generator=self.draws)
        return Batch(frames[:, picked], None, _mask(there[:, picked]))

    def score(self) -> Score:
        """Of the held-out series."""
        frames, there = self.held_out
        found = gtm.evaluate(self.guide, frames, mask=_mask(there))
        count = there.sum().item()
        bound = found.negative_elbo.sum().item() / count + self.log_scale
        return Score(bound, found.kl.sum().item() / count)


def _mask(there: Tensor) -> Tensor | None:
    """Without one a memory that can takes all steps at once."""
    return None if bool(there.all()) else there


def references(process: Process, trained_on: Sample, held_out: Sample) -> dict[str, float]:
    """Negative log-likelihoods of the held-out series, nats a frame."""

    def nats(model: Marginal | Autoregression) -> float:
        return -(model.log_prob(held_out).sum() / held_out.there.sum()).item()

    return {
        "marginal": nats(Marginal(trained_on)),
        "AR(1)": nats(Autoregression(trained_on)),
        **process.floors(held_out),
    }


def spread(numbers: list[float]) -> str:
    """Mean and standard deviation; of one number, itself."""
    mean = f"{statistics.mean(numbers):.3f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.3f}"


@command()
@memories_option("vrnn", "dnc", "associative", "introspective")
@size_option("--seeds", default=1, help="Runs of each, seeds 0, 1, ...")
@size_option("-n", "--steps", default=DEFAULTS.num_steps, help="Gradient steps.")
@click.option("--series", "process", type=click.Choice(list(PROCESSES)), default="regimes")
@click.option("--writes", type=click.Choice(get_args(Writes)), default=Recipe.writes)
@click.option("--posterior", type=click.Choice(get_args(Posterior)), default=Recipe.posterior)
@click.option("--elbo", type=click.Choice(ELBOS.names()), default=Recipe.elbo)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True, max=1),
    default=Recipe.learning_rate,
    help="Of Adam, at the top of its cosine.",
)
@click.option(
    "--kl-annealing",
    type=click.IntRange(0),
    show_default="a quarter of --steps",
    help="Steps over which the weight of the KL grows to 1.",
)
@click.option("--raw", is_flag=True, help="Give the series as they are, not standardised.")
@click.option(
    "--max-scale",
    type=click.FloatRange(0.1, 1e6),
    default=Recipe.max_scale,
    help="Greatest standard deviation of the likelihood.",
)
def main(
    memories: list[str],
    seeds: int,
    steps: int,
    process: str,
    kl_annealing: int | None,
    **settings: Any,
) -> None:
    """Train models on series of a process whose likelihood is known.

    The defaults take a quarter of an hour of one core.
    """
    recipe = replace(Recipe(), num_steps=steps, annealing=kl_annealing, **settings)
    torch.set_num_threads(1)
    made = PROCESSES[process]()
    trained_on, held_out = made.draw(TRAINED_ON, TRAINING_SEED), made.draw(HELD_OUT, HELD_OUT_SEED)
    rows = []
    for memory in memories:
        scores, seconds = [], []
        for seed in range(seeds):
            with refusing_bad_input():
                run = Run(memory, recipe, trained_on, held_out, seed)
            score, spent = run.train(f"{memory} seed {seed}")
            scores.append(score)
            seconds.append(spent)
        bounds, kls = ([one[k] for one in scores] for k in range(2))
        taken = statistics.mean(seconds)
        rows.append(f"{memory:16}{spread(bounds):>18}{spread(kls):>18}{taken:10.0f}")
    click.echo(f"\n{process}, {steps:,} steps, {seeds} {'seed' if seeds == 1 else 'seeds'}")
    click.echo(f"{'':16}{'nats a frame':>18}{'KL':>18}{'seconds':>10}")
    for name, nats in references(made, trained_on, held_out).items():
        click.echo(f"{name:16}{nats:18.3f}")
    click.echo("\n".join(rows))


if __name__ == "__main__":
    main()
