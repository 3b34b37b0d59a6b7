"""Your own Pyro model around the two effects, ``gtm.read()`` and ``gtm.write(z)``.

    python examples/compose_your_own.py --memory introspective

Model and guide are plain Pyro functions under plain SVI; the memory comes from the handler round
them.  Each sequence repeats a random pattern of eight numbers: the past says what comes.
"""

import click
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

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
                z = pyro.sample(f"z_{t}", gaussian(prior(gtm.read())))
                gtm.write(z)
                pyro.sample(f"x_{t}", dist.Normal(mean(z), 0.1).to_event(1), obs=x[t])

    @gtm.use_memory(module)
    def guide(x: Tensor) -> None:
        with pyro.plate("sequences", x.shape[1]):
            for t in range(len(x)):
                seen = torch.cat([gtm.read(), x[t]], dim=-1)
                gtm.write(pyro.sample(f"z_{t}", gaussian(posterior(seen))))

    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 3e-3}), TraceMeanField_ELBO())
    for step in range(1, num_steps + 1):
        pyro.enable_validation(step == 1)  # checks everything once, then costs nothing
        loss = svi.step(draw(BATCH)) / (BATCH * STEPS)
        if step % 100 == 0:
            click.echo(f"step {step:5d}  negative bound {loss:6.2f} nats a step")

    q = pyro.poutine.trace(guide).get_trace(x := draw(256))
    p = pyro.poutine.trace(pyro.poutine.replay(model, q)).get_trace(x)
    sites = [(q.nodes[f"z_{t}"]["fn"], p.nodes[f"z_{t}"]["fn"]) for t in range(STEPS)]
    kl = torch.stack([kl_divergence(*pair).mean() for pair in sites])
    first, later = kl[:PERIOD].mean(), kl[PERIOD:].mean()
    click.echo(f"KL in nats a step: {first:.2f} in the first period, {later:.2f} after it")


if __name__ == "__main__":
    main()
