"""A Pyro model of your own around two effects, ``gtm.read()`` and ``gtm.write(z)``.

    python examples/compose_your_own.py --memory introspective

The model is a plain Pyro function under plain SVI; the memory comes from the handler round it, and
each latent site carries its posterior.  A sequence repeats a random pattern of eight numbers: the
past says what comes.
"""

import click
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

import pyro_gtm as gtm

PERIOD, STEPS, LATENT, BATCH = 8, 24, 4, 32


def draw(batch: int) -> Tensor:
    pattern = torch.randn(PERIOD, batch, 1)
    return pattern.repeat(STEPS // PERIOD, 1, 1) + 0.05 * torch.randn(STEPS, batch, 1)


def network(inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 2 * LATENT))


def gaussian(parameters: Tensor) -> dist.Distribution:
    location, raw = parameters.chunk(2, dim=-1)
    return dist.Normal(location, nn.functional.softplus(raw) + 1e-3).to_event(1)


@click.command(context_settings={"show_default": True})
@click.option("--memory", type=click.Choice(gtm.memory.memory_names()), default="introspective")
@click.option("-n", "--num-steps", type=click.IntRange(1), default=600)
def main(memory: str, num_steps: int) -> None:
    """Train, then print the KL in the first period and after it."""
    torch.set_num_threads(1)  # more would only wait for each other over tensors this small
    pyro.set_rng_seed(0)
    module = gtm.make_memory(memory, latent_dim=LATENT, hidden_dim=64)
    size, mean = module.context_dim, nn.Linear(LATENT, 1)
    networks = nn.ModuleList([prior := network(size), posterior := network(size + 1), mean])

    @gtm.use_memory(module)
    def model(x: Tensor) -> None:
        pyro.module("networks", networks)
        with pyro.plate("sequences", x.shape[1]):
            for t in range(len(x)):
                context = gtm.read()
                q = gaussian(posterior(torch.cat([context, x[t]], dim=-1)))
                z = pyro.sample(f"z_{t}", gaussian(prior(context)), infer={"posterior": q})
                gtm.write(z)
                pyro.sample(f"x_{t}", dist.Normal(mean(z), 0.1).to_event(1), obs=x[t])

    guide = gtm.FilteringGuide(model)  # puts each q in its prior's place: one run, two traces
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 3e-3}), TraceMeanField_ELBO())
    for step in range(1, num_steps + 1):
        pyro.enable_validation(step == 1)  # checks everything once, then costs nothing
        loss = svi.step(draw(BATCH)) / (BATCH * STEPS)
        if step % 100 == 0:
            click.echo(f"step {step:5d}  negative ELBO {loss:6.2f} nats a step")

    kl = gtm.evaluate(guide, draw(256)).kl.mean(1)  # (T,)
    click.echo(
        f"KL in nats a step: {kl[:PERIOD].mean():.2f} in the first period, "
        f"{kl[PERIOD:].mean():.2f} after it"
    )


if __name__ == "__main__":
    main()
