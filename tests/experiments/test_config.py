"""A configuration: presets, what may be put on top of them, and the file it is saved in."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

import pyro_gtm as gtm
from pyro_gtm.experiments.config import PRESETS, Config, make_config, read_config


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.json"


@pytest.mark.parametrize("preset", PRESETS)
def test_file_round_trips(preset, path):
    config = make_config(preset, seed=7, data_dir="somewhere", memory_options={"slots": 12})
    path.write_text(config.to_json())
    assert read_config(path) == config


def test_defaults_are_the_small_preset():
    assert make_config() == make_config("small") == Config()


def test_presets_differ_and_keep_their_name():
    made = {name: make_config(name) for name in PRESETS}
    assert [config.preset for config in made.values()] == list(PRESETS)
    assert made["debug"].num_steps < made["small"].num_steps < made["paper"].num_steps
    assert made["paper"].network == "conv"


def test_a_preset_overrides_the_tasks_settings():
    rooms = make_config(task="rotation_3d")
    assert (rooms.network, rooms.latent_dim, rooms.likelihood) == ("small_conv", 64, "gaussian")
    assert make_config("paper", task="rotation_3d").network == "conv"
    assert make_config("debug", task="rotation_3d").latent_dim == make_config("debug").latent_dim
    assert make_config(task="rotation_3d", network="mlp").network == "mlp"


def test_nested_options_are_merged_and_the_rest_replaced():
    config = make_config(
        "debug",
        memory_options={"heads": 7, "slots": 9},
        task_options={"recall_length": 1},
        batch_size=3,
    )
    preset = make_config("debug")
    assert config.memory_options == {**preset.memory_options, "heads": 7, "slots": 9}
    assert config.memory_options["hidden_dim"] == preset.memory_options["hidden_dim"]
    assert config.task_options == {"list_length": 4, "recall_length": 1}
    assert (config.batch_size, config.num_steps) == (3, preset.num_steps)


def test_each_memory_has_the_presets_options_for_it():
    assert "heads" in make_config("debug", memory="introspective").memory_options
    assert "heads" not in make_config("debug", memory="vrnn").memory_options
    assert make_config("debug", memory="one of a user's").memory_options == {}
    for memory in gtm.memory.memory_names():
        wide, narrow = (make_config(p, memory=memory).memory_options for p in ("paper", "debug"))
        assert wide["hidden_dim"] > narrow["hidden_dim"]


def test_changing_a_configurations_options_leaves_the_preset():
    before = asdict(make_config("debug"))
    config = make_config("debug")
    config.memory_options["heads"] = 99
    config.task_options["list_length"] = 99
    assert asdict(make_config("debug")) == before


def test_unknown_preset_and_key_are_named():
    with pytest.raises(ValueError, match=r"preset: got 'big', must be one of debug, small, paper"):
        make_config("big")
    with pytest.raises(ValueError, match=r"got 'steps', must be one of .*num_steps"):
        make_config(steps=3)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *((name, 0, "a positive integer") for name in ("latent_dim", "num_steps", "save_every")),
        *((name, -1, "a positive integer") for name in ("log_every", "eval_sequences")),
        *((name, -1, "a non-negative integer") for name in ("kl_annealing", "checkpoint_every")),
        *((name, 0.0, "a positive number") for name in ("learning_rate", "clip_norm")),
        ("learning_rate", float("nan"), "a positive number"),
        ("clip_norm", float("inf"), "a positive number"),
        ("learning_rate", "fast", "a positive number"),
        ("seed", -1, "an integer from 0 to 4294967295"),
        ("seed", 2**32, "an integer from 0 to 4294967295"),
        ("batch_size", "8", "a positive integer"),
        ("batch_size", 2.5, "a positive integer"),
        ("batch_size", True, "a positive integer"),
        ("memory_options", 3, "a table of options"),
        ("memory", None, "text"),
        ("writes", "none", "one of latent, mean, latent+frame"),
        ("matmul_precision", "low", "one of highest, high, medium"),
        ("matmul_precision", None, "one of highest, high, medium"),
    ],
)
def test_impossible_value_is_one_sentence(name, value, allowed):
    with pytest.raises(ValueError) as refused:
        Config(**{name: value})
    assert str(refused.value) == f"{name}: got {value!r}, must be {allowed}"


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "negative_binomial", "poisson"])
def test_likelihood_of_whole_numbers_is_refused_for_grey_images(likelihood):
    with pytest.raises(ValueError, match=rf"binarise: got 'none', .*likelihood='{likelihood}'"):
        make_config(binarise="none", likelihood=likelihood)
    assert make_config(binarise="none", likelihood="gaussian").binarise == "none"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b'{"seed": 1', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[1, 2]", "holds no configuration"),
        (b'{"seeed": 1}', "got 'seeed', must be one of memory, "),
        (b'{"latent_dim": "8"}', "latent_dim: got '8', must be a positive integer"),
        (b'{"latent_dim": 0}', "latent_dim: got 0, must be a positive integer"),
    ],
)
def test_damaged_file_is_named(content, reason, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}.*{reason}"):
        read_config(path)


def test_missing_file_is_named(path):
    with pytest.raises(ValueError, match=f"^{path} cannot be read: No such file"):
        read_config(path)


def test_file_without_a_setting_takes_its_default(path):
    content = json.loads(make_config("debug").to_json())
    del content["clip_norm"], content["checksum"]  # of an earlier version
    path.write_text(json.dumps(content))
    assert read_config(path) == make_config("debug")


def test_every_way_of_running_is_off_unless_asked_for():
    """What presets promise is of the plain recurrence in float32."""
    for preset in PRESETS:
        config = make_config(preset)
        assert (config.checkpoint_every, config.compile_steps) == (0, 0)
        assert (config.precision, config.matmul_precision) == ("float32", "highest")
