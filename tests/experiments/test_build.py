"""From a configuration to live objects: what is random, and what is refused."""

from __future__ import annotations

from inspect import signature

import pytest
import torch

import pyro_gtm as gtm
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import MEMORY_OPTIONS, PRESETS, make_config
from pyro_gtm.experiments.experiment import eval_mode
from pyro_gtm.experiments.machine import pick_device
from pyro_gtm.memory.registry import MEMORIES


def build(**overrides):
    return build_experiment(make_config("debug", **{"eval_sequences": 4, **overrides}))


def weights(experiment):
    modules = torch.nn.ModuleList([experiment.program, experiment.memory])
    return {name: value.clone() for name, value in modules.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_seed_decides_the_weights_and_the_batches():
    one, again = build(seed=3), build(seed=3)
    other = build(seed=4)
    assert same(weights(one), weights(again))
    assert not same(weights(one), weights(other))
    frames = one.draw()[0]
    assert frames.equal(again.draw()[0])
    assert not frames.equal(one.draw()[0]), "the next batch is another"
    assert not frames.equal(other.draw()[0])


def test_batches_do_not_depend_on_the_memory():
    assert build().draw()[0].equal(build(memory="vrnn").draw()[0])


@pytest.mark.parametrize("binarise", ["threshold", "sampled"])
def test_all_are_judged_on_the_same_sequences(binarise, memory_name):
    reference = build(binarise=binarise).held_out()
    other = build(binarise=binarise, memory=memory_name, seed=5)
    other.draw()
    torch.rand(3)
    for _ in range(2):
        assert other.held_out().frames.equal(reference.frames)
        assert other.held_out().labels.equal(reference.labels)


def test_held_out_images_are_none_of_those_trained_on():
    experiment = build()
    trained = {image.numpy().tobytes() for image in experiment.training_task.images.images}
    shown = experiment.held_out(8).frames.flatten(0, 1)
    assert not trained & {image.numpy().tobytes() for image in shown}


def test_evaluation_is_repeatable_and_leaves_no_trace(memory_name):
    experiment = build(memory=memory_name)
    batch = experiment.held_out()
    before = torch.get_rng_state(), experiment.draws.get_state(), weights(experiment)
    first = experiment.evaluate(batch)
    assert torch.get_rng_state().equal(before[0])
    assert experiment.draws.get_state().equal(before[1])
    assert same(weights(experiment), before[2])
    assert experiment.program.training and experiment.memory.training
    assert all(p.grad is None for p in experiment.program.parameters())

    torch.rand(5)
    assert all(map(torch.equal, experiment.evaluate(batch)[:2], first[:2]))


def test_eval_mode_ends_with_an_error_too():
    experiment = build()
    before = torch.get_rng_state()
    with pytest.raises(KeyError), eval_mode(experiment):
        assert not experiment.program.training
        torch.rand(1)
        raise KeyError
    assert experiment.program.training and experiment.memory.training
    assert torch.get_rng_state().equal(before)


def test_num_parameters_counts_program_and_memory():
    assert build().num_parameters == sum(value.numel() for value in weights(build()).values())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_explains_frames(preset, memory_name):
    experiment = build_experiment(
        make_config(preset, memory=memory_name, eval_sequences=1, batch_size=1)
    )
    evaluation = experiment.evaluate(experiment.held_out())
    assert evaluation.negative_elbo.shape == (experiment.training_task.num_steps, 1)
    assert evaluation.negative_elbo.isfinite().all()


@pytest.mark.parametrize("memory", MEMORY_OPTIONS["paper"])
def test_paper_preset_has_the_papers_number_of_parameters(memory):
    """1.87 million (Table 1), within 0.8 %: any two memories agree within 1.5 %."""
    built = build_experiment(make_config("paper", memory=memory))
    assert built.num_parameters == pytest.approx(1.873e6, rel=0.0075)


@pytest.mark.parametrize(
    "memory", [m for m in MEMORIES if "slots" in signature(MEMORIES.find(m)).parameters]
)
def test_more_slots_than_the_machine_holds_are_refused_before_they_are_made(memory):
    with pytest.raises(ValueError, match=r"slots=1000000000: for .* can hold"):
        build(memory=memory, memory_options={"slots": 10**9})


def test_memory_has_a_slot_for_every_frame_unless_told():
    assert build(task_options={"list_length": 5, "recall_length": 3}).memory.slots == 8
    assert build(memory_options={"slots": 2}).memory.slots == 2


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        *(
            ({name: "none"}, f"^{name}: got 'none', must be one of ")
            for name in ("memory", "task", "network", "likelihood", "data", "elbo")
        ),
        (
            {"data": "rooms"},
            "data: got 'rooms', must be one of digits, mnist, strokes, omniglot for the task ",
        ),
        ({"device": "none"}, "device: got 'none', must be auto, cpu"),
        ({"task_options": {"size": 3}}, "takes no option 'size'"),
        ({"task_options": {"list_length": 2, "recall_length": 3}}, "recall_length"),
        ({"memory_options": {"size": 3}}, "takes no option 'size'"),
        (
            {"memory_options": {"latent_dim": 3}},
            "latent_dim: got 3, must be left out, as it follows",
        ),
        ({"memory_options": {"control_dim": 3}}, "control_dim: got 3, must be left out"),
        (
            {"memory_options": {"append_hidden": "maybe"}},
            "append_hidden: got 'maybe', must be true or false",
        ),
        ({"latent_dim": 10**12}, r"got latent_dim=10{12}, .* can be built here"),
        ({"hidden_dim": 10**12}, r"got 10{12}, 8 and 0, must .* machine can hold"),
        ({"hidden_dim": 10**23}, r"got 10{23}, 8 and 0, must .* machine can hold"),
        (
            {"memory_options": {"hidden_dim": 10**12}},
            r"memory_options: got .*hidden_dim=10{12}, .* can be built here",
        ),
        (
            {"memory_options": {"slots": 10**40}},
            r"cannot be built with slots=10{40}: .* can hold",
        ),
        ({"batch_size": 10**12}, "1000000000000 sequences .*batch_size"),
        ({"task_options": {"list_length": 10**9}}, "1000000002 frames .*list"),
    ],
)
def test_impossible_setting_is_named(settings, reason):
    with pytest.raises(ValueError, match=reason):
        build(**settings)


def test_memory_of_the_wrong_kind_of_option_is_one_sentence(monkeypatch):
    """A user's memory need not check its arguments as ours do."""
    monkeypatch.setattr(MEMORIES, "classes", dict(MEMORIES.classes))

    @gtm.register_memory("trusting")
    class Trusting(gtm.RecurrentMemory):
        def __init__(self, latent_dim, hidden_dim=4, control_dim=0):
            torch.nn.Linear(hidden_dim, 1)
            super().__init__(latent_dim, hidden_dim, control_dim)

    with pytest.raises(ValueError, match=r"got .*hidden_dim='abc'.* 'trusting' can be built"):
        build(memory="trusting", memory_options={"hidden_dim": "abc"})


@pytest.mark.parametrize("name", ["", "nonsense", "meta", "cuda:99", "cpu cpu"])
def test_no_such_device(name):
    with pytest.raises(ValueError, match=f"device: got {name!r}, must be auto, cpu or "):
        pick_device(name)


def test_devices_there_are():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_two_experiments_in_one_process_can_both_be_evaluated():
    one, other = (
        build_experiment(make_config("debug", memory=m)) for m in ("vrnn", "introspective")
    )
    for experiment in (one, other, one):
        batch = experiment.held_out(4)
        assert experiment.evaluate(batch).kl.shape == batch.labels.shape


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_precision_of_products_is_that_of_the_run(precision):
    before = torch.get_float32_matmul_precision()
    try:
        build(matmul_precision=precision)
        assert torch.get_float32_matmul_precision() == precision
        build()
        assert torch.get_float32_matmul_precision() == "highest", "the next run owns the process"
    finally:
        torch.set_float32_matmul_precision(before)


def test_blocks_are_of_program_and_recurrence(memory_name):
    """The setting reaches both: either alone would keep what the other lets go of."""
    loss = {}
    # A posterior that wants the context, so that no memory takes all steps at once.
    settings = {"memory": memory_name, "posterior": "residual", "writes": "latent"}
    for every in (0, 2):
        experiment = build(**settings, checkpoint_every=every)
        calls = []
        for module in (experiment.program.encoder, experiment.memory.controller):
            module.register_forward_pre_hook(lambda module, _, calls=calls: calls.append(module))
        frames, controls = experiment.draw()
        torch.manual_seed(1)
        svi = experiment.svi
        loss[every] = svi.loss_and_grads(svi.model, svi.guide, frames, controls)
        steps = len(frames)
        # Blocks run twice; one step more is taken to find the weights that they depend on.
        assert calls.count(experiment.program.encoder) == (2 * -(-steps // 2) + 1 if every else 1)
        assert calls.count(experiment.memory.controller) == (2 * steps + 1 if every else steps)
    assert loss[2].item() == pytest.approx(loss[0].item(), rel=1e-6)


def test_ways_of_running_change_what_they_say(memory_name):
    """Checkpointed, weights are trained the same; in bfloat16, not quite."""

    def trained(**settings):
        experiment = build(memory=memory_name, **settings)
        before = weights(experiment)
        torch.manual_seed(1)
        for _ in range(3):
            experiment.svi.step(*experiment.draw())
        after = weights(experiment)
        return torch.cat([(after[name] - before[name]).flatten() for name in before])

    plain = trained()

    def likeness(**settings):
        return torch.nn.functional.cosine_similarity(trained(**settings), plain, dim=0)

    assert likeness(checkpoint_every=4) > 0.99999
    assert 0.9 < likeness(precision="bfloat16") < 0.9999
