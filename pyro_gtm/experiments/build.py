"""From a configuration to live objects: data, task, memory, program, guide, inference."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyro
import torch
from pyro.infer import SVI

from pyro_gtm.experiments.config import Config
from pyro_gtm.experiments.curriculum import Curriculum
from pyro_gtm.experiments.data import SOURCES, load_data, usable_sources
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.machine import bytes_of_memory, check_fits, pick_device
from pyro_gtm.handlers import FilteringGuide, use_memory
from pyro_gtm.infer.captured import CapturedSVI
from pyro_gtm.infer.distributed_elbo import DistributedELBO
from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.infer.optim import FusedAdam
from pyro_gtm.infer.ranks import ALONE, Ranks
from pyro_gtm.internals.products import set_products
from pyro_gtm.internals.unrolling import Unrolling
from pyro_gtm.memory import MemoryModule, make_memory
from pyro_gtm.memory.registry import memory_class
from pyro_gtm.model.likelihoods import LIKELIHOODS, Likelihood
from pyro_gtm.model.networks import make_networks
from pyro_gtm.model.program import GenerativeTemporalModel
from pyro_gtm.tasks import Task, make_task, task_class

__all__ = ["build_experiment", "seed_of_rank"]

load_data_once = functools.lru_cache(maxsize=4)(load_data)
"""Data is never changed, so that the experiments of a process can share it."""


def build_experiment(config: Config, test_options: Mapping[str, Any] | None = None) -> Experiment:
    """Build everything a run needs; nothing is written and nothing trained.

    Clears Pyro's parameter store, seeds PyTorch and sets the precision of its matrix products: a
    run owns its process.  A run of several ranks is built in each of them, with the same weights,
    noise of its own, and the gradient of all.
    Clears Pyro's parameter store, seeds PyTorch, sets the precision of its matrix products and what
    multiplies (the configuration of the experiment says what ``auto`` has become): a run owns its
    process.

    Args:
        config: what is asked for.
        test_options: options of the task in which held-out sequences differ from training, such as
            a longer list.

    Raises:
        ValueError: the configuration asks for something impossible, or for other ranks than
            there are.
        MissingDataError: its data cannot be had.
    """
    ranks = _find_ranks(config)
    device = pick_device(ranks.device(config.device))
    _check_source(config)
    # No seed of the run's: images, sampled pixels included, are the same for all runs.
    splits = load_data_once(config.data, config.data_dir, binarise=config.binarise)
    train = splits.train.to(device)
    training_task = make_task(config.task, train, **config.task_options)
    test_options = {**config.task_options, **(test_options or {})}
    test_task = make_task(config.task, splits.test.to(device), **test_options)
    for name in ("event_shape", "control_dim"):
        trained, asked = getattr(training_task, name), getattr(test_task, name)
        if trained != asked:
            raise ValueError(
                f"task_options: got {test_options}, of {name} {asked}, must give {name} {trained}, "
                "for which the model was made"
            )
    curriculum = _build_curriculum(config, training_task, train)
    for task in (training_task, test_task):
        check_fits(task, max(config.batch_size * ranks.size, config.eval_sequences))
    _check_slots_fit(config, training_task)
    likelihood = LIKELIHOODS.make(config.likelihood, training_task.event_shape)

    torch.set_float32_matmul_precision(config.matmul_precision)
    torch.backends.cudnn.allow_tf32 = config.matmul_precision != "highest"  # of convolutions
    if device.type == "cpu":
        config = replace(config, products=set_products(cast(Any, config.products)).backend)
    pyro.clear_param_store()
    pyro.set_rng_seed(config.seed)
    memory = _build_memory(config, training_task)
    program = _build_program(config, likelihood, memory)
    program.to(device), memory.to(device)
    if not ranks.first:
        torch.manual_seed(seed_of_rank(config.seed, ranks.rank))

    unrolling = Unrolling(
        checkpoint_every=config.checkpoint_every, compile_steps=config.compile_steps
    )
    model = use_memory(memory, unrolling=unrolling)(program.model)
    guide = FilteringGuide(model)
    optimizer = FusedAdam(lr=config.learning_rate, clip_norm=config.clip_norm)
    elbo = ELBOS.make(config.elbo)
    if ranks.size > 1:
        elbo = DistributedELBO(elbo, ranks)
    draws = torch.Generator(device).manual_seed(config.seed)
    svi = SVI(model, guide, optimizer, elbo)
    if device.type == "cuda" and curriculum is None:  # a graph is of one size
        svi = CapturedSVI(model, guide, optimizer, elbo, device=device, generators=[draws])
    return Experiment(
        config=config,
        device=device,
        training_task=training_task,
        test_task=test_task,
        program=program,
        memory=memory,
        guide=guide,
        optimizer=optimizer,
        svi=svi,
        draws=draws,
        curriculum=curriculum,
        ranks=ranks,
    )


def seed_of_rank(seed: int, rank: int) -> int:
    """Of the noise of a rank other than the first, which has the run's own."""
    return int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])


def _find_ranks(config: Config) -> Ranks:
    if config.ranks == 1:
        return ALONE
    ranks = Ranks.here()
    if ranks.size != config.ranks:
        raise ValueError(
            f"ranks: got {config.ranks}, must be {ranks.size}, the processes that there are: "
            f"torchrun --nproc-per-node={config.ranks} starts as many"
        )
    return ranks


def _check_source(config: Config) -> None:
    SOURCES.find(config.data)
    usable = usable_sources(task_class(config.task).sources)
    if config.data not in usable:
        raise ValueError(
            f"data: got {config.data!r}, must be one of {', '.join(usable)} for the task "
            f"{config.task}"
        )


def _build_curriculum(config: Config, task: Task, source: Any) -> Curriculum | None:
    if config.curriculum == "none":
        return None
    smaller = [
        make_task(config.task, source, **{**config.task_options, **options})
        for options in task.curriculum()
    ]
    if not smaller:
        raise ValueError(
            f"curriculum: got {config.curriculum!r}, must be none for the task {config.task} of "
            f"{task.num_steps} frames, which declares no smaller sizes"
        )
    return Curriculum([*smaller, task], cast(Any, config.curriculum), config.num_steps)


def _build_program(
    config: Config, likelihood: Likelihood, memory: MemoryModule
) -> GenerativeTemporalModel:
    if config.prior == "mixture" and not memory.recall_length:
        without = config.memory_options.get("recall") is False
        why = "without recall=true" if without else "which has no slots to recall from"
        raise ValueError(
            f"prior: got 'mixture', must be 'gaussian' for memory {config.memory!r}, {why}"
        )
    context_dim = memory.context_dim
    from_context = context_dim if config.decoder_input == "latent+context" else 0
    try:
        encoder, decoder = make_networks(
            config.network,
            likelihood,
            hidden_dim=config.hidden_dim,
            decoder_input_dim=config.latent_dim + from_context,
        )
        return GenerativeTemporalModel(
            context_dim=context_dim,
            latent_dim=config.latent_dim,
            encoder=encoder,
            decoder=decoder,
            likelihood=likelihood,
            decoder_input=cast(Any, config.decoder_input),
            writes=cast(Any, config.writes),
            posterior=cast(Any, config.posterior),
            prior=cast(Any, config.prior),
            recall_heads=memory.read_shape[0],
            prototypes=config.prototypes,
            precision=cast(Any, config.precision),
            checkpoint_every=config.checkpoint_every,
        )
    except (RuntimeError, OverflowError, TypeError) as error:  # larger than any machine
        raise ValueError(
            f"hidden_dim, latent_dim, prototypes: got {config.hidden_dim}, {config.latent_dim} and "
            f"{config.prototypes}, must be such that the machine can hold the networks "
            f"({str(error).splitlines()[0]})"
        ) from error


def _build_memory(config: Config, task: Task) -> MemoryModule:
    options: dict[str, Any] = {
        "latent_dim": GenerativeTemporalModel.written_dim(
            config.latent_dim, config.hidden_dim, cast(Any, config.writes)
        ),
        **config.memory_options,
    }
    taken = inspect.signature(memory_class(config.memory)).parameters
    for name, value in config.memory_options.items():
        if name in ("latent_dim", "control_dim"):
            raise ValueError(
                f"memory option {name}: got {value!r}, must be left out, as it follows from the "
                "program and the task"
            )
        is_switch = name in taken and isinstance(taken[name].default, bool)
        if is_switch and not isinstance(value, bool):  # any word would count as true
            raise ValueError(f"memory option {name}: got {value!r}, must be true or false")
    if task.control_dim:
        options["control_dim"] = task.control_dim
    if "recall" in taken and config.prior == "mixture":
        options.setdefault("recall", True)
    if "slots" in taken:
        options.setdefault("slots", task.num_steps)
    try:
        return make_memory(config.memory, **options)
    except (RuntimeError, OverflowError, TypeError) as error:  # too large, or of the wrong kind
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ValueError(
            f"memory_options: got {given}, must be such that memory {config.memory!r} can be built "
            f"here ({str(error).splitlines()[0]})"
        ) from error


def _check_slots_fit(config: Config, task: Task) -> None:
    slots, available = config.memory_options.get("slots"), bytes_of_memory(task.device)
    if not isinstance(slots, int) or available is None:  # the memory says what is wrong with it
        return
    sequences = max(config.batch_size, config.eval_sequences)
    if 4 * slots * config.latent_dim * sequences > available:
        raise ValueError(
            f"memory {config.memory!r} cannot be built with slots={slots}: for {sequences} "
            "sequences that is more than this machine can hold"
        )
