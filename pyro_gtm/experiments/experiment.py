"""The live objects of one run, and their state: weights, moments, random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from pyro.infer import SVI
from torch import Tensor

from pyro_gtm.experiments.config import Config
from pyro_gtm.experiments.curriculum import Curriculum
from pyro_gtm.experiments.machine import check_fits
from pyro_gtm.handlers import FilteringGuide
from pyro_gtm.infer.evaluation import Evaluation, evaluate
from pyro_gtm.infer.learning_rate import LearningRate
from pyro_gtm.infer.optim import FusedAdam
from pyro_gtm.infer.ranks import ALONE, Ranks
from pyro_gtm.memory import MemoryModule
from pyro_gtm.model.program import GenerativeTemporalModel
from pyro_gtm.tasks import Sequences, Task

__all__ = ["EVALUATION_SEED", "Experiment", "TakenWeights", "eval_mode"]

EVALUATION_SEED = 170_204_649
"""All runs, whatever their seed, are judged on the same held-out sequences with the same noise."""


class TakenWeights(NamedTuple):
    """What became of another model's weights, by the names of tensors."""

    taken: list[str]
    """Those that fit."""

    left: list[str]
    """Those of the model that stay as they were drawn: none was given that fits."""

    ignored: list[str]
    """Those given that fit none."""


@dataclass
class Experiment:
    """The objects of one run."""

    config: Config
    device: torch.device
    training_task: Task
    test_task: Task
    program: GenerativeTemporalModel
    memory: MemoryModule
    guide: FilteringGuide
    optimizer: FusedAdam
    svi: SVI
    draws: torch.Generator
    """Draws the training sequences; all else that is random, PyTorch's own generators."""

    curriculum: Curriculum | None = None
    """The sizes that training sequences have; None where all are of the training task."""
    ranks: Ranks = ALONE
    """The processes that train this model, this one among them."""
    frames_drawn: int = 0
    """Frames of the training batch drawn last, over all its sequences."""

    def draw(self) -> tuple[Tensor, Tensor | None]:
        """Frames and controls of the next training batch: of that of all ranks, this one's part.

        Each rank draws the batch of all, as one process would with as many sequences.
        """
        task = self.curriculum.draw(self.draws) if self.curriculum else self.training_task
        batch = task.sample(self.config.batch_size * self.ranks.size, self.draws)
        self.frames_drawn = batch.labels.numel()
        return self.ranks.share(batch.frames), self.ranks.share(batch.controls)

    @property
    def learning_rate(self) -> LearningRate:
        """That of each step."""
        config = self.config
        return LearningRate(
            config.learning_rate,
            num_steps=config.num_steps,
            warmup=config.warmup,
            schedule=cast(Any, config.schedule),
        )

    def held_out(self, sequences: int | None = None, seed: int = EVALUATION_SEED) -> Sequences:
        """Sequences of held-out images, the same at every call.

        Raises:
            ValueError: more than the machine could hold.
        """
        check_fits(self.test_task, sequences or self.config.eval_sequences)
        generator = torch.Generator(self.device).manual_seed(seed)
        return self.test_task.sample(sequences or self.config.eval_sequences, generator)

    def evaluate(self, batch: Sequences) -> Evaluation:
        """Both terms of the negative ELBO on ``batch``; the training's RNG state stays."""
        with eval_mode(self):
            return evaluate(self.guide, batch.frames, batch.controls)

    @property
    def num_parameters(self) -> int:
        """Trainable numbers in the program and its memory."""
        modules = (self.program, self.memory)
        return sum(p.numel() for module in modules for p in module.parameters())

    def state(self) -> dict[str, Any]:
        """Weights, moments, RNG states and the stage of the curriculum, for a checkpoint."""
        state: dict[str, Any] = {
            "program": self.program.state_dict(),
            "memory": self.memory.state_dict(),
            "optimizer": self.optimizer.get_state(),
            "device": self.device.type,
            "draws": self.draws.get_state(),
            **self.noise_state(),
        }
        if self.curriculum:
            state["stage"] = self.curriculum.stage
        return state

    def noise_state(self) -> dict[str, Tensor]:
        """The state of PyTorch's own generators, which each rank has for itself."""
        state = {"noise": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda_noise"] = torch.cuda.get_rng_state(self.device)
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take up weights, moments and the stage that :meth:`state` gave.

        Raises:
            RuntimeError: the weights do not fit.
        """
        self.program.load_state_dict(state["program"])
        self.memory.load_state_dict(state["memory"])
        if "optimizer" in state:  # an exported model has none
            self.optimizer.set_state(state["optimizer"])
        if self.curriculum:
            self.curriculum.stage = state["stage"]

    def take_weights(self, state: Mapping[str, Any]) -> TakenWeights:
        """Take those of the weights in a :meth:`state` that fit by name and shape.

        The state may be another task's or memory's; moments and random numbers stay as they are.
        """
        taken, left, ignored = [], [], []
        for part, module in (("program", self.program), ("memory", self.memory)):
            own, given = module.state_dict(), state[part]
            fit = {n: v for n, v in given.items() if n in own and v.shape == own[n].shape}
            module.load_state_dict({**own, **fit})
            taken += [f"{part}.{name}" for name in fit]
            left += [f"{part}.{name}" for name in own if name not in fit]
            ignored += [f"{part}.{name}" for name in given if name not in fit]
        return TakenWeights(taken, left, ignored)

    def set_rng_state(self, state: Mapping[str, Any], seed: int) -> bool:
        """Go on with the random numbers of :meth:`state`.

        No kind of device can hand them to another: on another, the RNG is seeded with ``seed``.

        Returns:
            Whether the random numbers are those of the state.
        """
        if state["device"] != self.device.type:
            torch.manual_seed(seed)
            self.draws.manual_seed(seed)
            return False
        self.draws.set_state(state["draws"].cpu())
        torch.set_rng_state(state["noise"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_noise"].cpu(), self.device)
        return True


@contextmanager
def eval_mode(experiment: Experiment, seed: int = EVALUATION_SEED) -> Iterator[None]:
    """Within it, networks are in evaluation mode and the RNG is seeded; both are put back."""
    modules = (experiment.program, experiment.memory)
    devices = [experiment.device] if experiment.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for module in modules:
            module.eval()
        try:
            yield
        finally:
            for module in modules:
                module.train()
