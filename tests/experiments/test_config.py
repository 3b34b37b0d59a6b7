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
    for memory in gtm.memory_names():
        wide, narrow = (make_config(p, memory=memory).memory_options for p in ("paper", "debug"))
        assert wide["hidden_dim"] > narrow["hidden_dim"]


def test_changing_a_configurations_options_leaves_the_preset():
    before = asdict(make_config("debug"))
    config = make_config("debug")
    config.memory_options["heads"] = 99
    config.task_options["list_length"] = 99
    assert asdict(make_config("debug")) == before


def test_unknown_preset_and_key_are_named():
    with pytest.raises(ValueError, match=r"preset must be one of debug, small, paper; got 'big'"):
        make_config("big")
    with pytest.raises(ValueError, match=r"unknown setting 'steps'; known are .*num_steps"):
        make_config(steps=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("latent_dim", "hidden_dim", "num_steps", "batch_size")),
        *((name, -1) for name in ("log_every", "eval_every", "eval_sequences", "kl_warmup")),
        ("save_every", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip_norm", float("inf")),
        ("seed", -1),
        ("seed", 2**32),
        ("elbo", "tighter"),
        ("batch_size", "8"),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("learning_rate", "fast"),
        ("memory_options", 3),
        ("memory", None),
    ],
)
def test_impossible_value_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        Config(**{name: value})


def test_binary_likelihood_of_grey_images_is_refused():
    with pytest.raises(ValueError, match=r"likelihood='bernoulli'.*binarise='none'"):
        make_config(binarise="none")
    assert make_config(binarise="none", likelihood="gaussian").binarise == "none"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b'{"seed": 1', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[1, 2]", "holds no configuration"),
        (b'{"seeed": 1}', "unknown setting 'seeed'"),
        (b'{"latent_dim": "8"}', "latent_dim must be a whole number"),
        (b'{"latent_dim": 0}', "latent_dim must be at least 1"),
    ],
)
def test_damaged_file_is_named(content, reason, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}.*{reason}"):
        read_config(path)


def test_missing_file_is_named(path):
    with pytest.raises(ValueError, match=f"^{path} cannot be read: No such file"):
        read_config(path)


def test_file_of_an_earlier_version_takes_defaults(path):
    """A setting that came later has, for older runs, the value that was built in."""
    content = json.loads(make_config("debug").to_json())
    del content["clip_norm"]
    path.write_text(json.dumps(content))
    assert read_config(path) == make_config("debug")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        *((name, -1, "at least 0") for name in ("checkpoint_every", "truncate_every")),
        ("compile_steps", -1, "at least 0"),
        ("save_every", -5, "at least 1"),
        *((name, 2.5, "a whole number") for name in ("checkpoint_every", "truncate_every")),
        ("compile_steps", True, "a whole number"),
        ("save_every", "often", "a whole number"),
        ("precision", 16, "text"),
        ("matmul_precision", "low", "one of highest, high, medium"),
        ("matmul_precision", None, "text"),
    ],
)
def test_impossible_ways_of_running_are_one_sentence(name, value, allowed):
    with pytest.raises(ValueError) as refused:
        make_config("debug", **{name: value})
    sentence = str(refused.value)
    assert sentence.startswith(f"{name} must be {allowed}")
    assert sentence.endswith(f"got {value!r}")
    assert "\n" not in sentence


def test_every_way_of_running_is_off_unless_asked_for():
    """What presets promise is of the plain recurrence in float32."""
    for preset in PRESETS:
        config = make_config(preset)
        assert (config.checkpoint_every, config.truncate_every, config.compile_steps) == (0, 0, 0)
        assert (config.precision, config.matmul_precision) == ("float32", "highest")


def test_a_file_of_0_1_0_calls_save_every_checkpoint_every(path):
    content = json.loads(make_config("debug", seed=7).to_json())
    del content["save_every"]
    content["checkpoint_every"] = 500
    path.write_text(json.dumps(content))
    assert read_config(path) == make_config("debug", seed=7, save_every=500)


def test_a_file_of_today_keeps_both(path):
    config = make_config("debug", save_every=30, checkpoint_every=4)
    path.write_text(config.to_json())
    read = read_config(path)
    assert (read.save_every, read.checkpoint_every) == (30, 4)


def test_an_impossible_value_of_0_1_0_is_named(path):
    path.write_text(json.dumps({"checkpoint_every": 0}))
    with pytest.raises(ValueError, match=r"is damaged: save_every must be at least 1, got 0"):
        read_config(path)
