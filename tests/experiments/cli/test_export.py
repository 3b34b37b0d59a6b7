"""A model to hand on, and those that come with the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyro_gtm.experiments.checkpoint_file import load_checkpoint
from pyro_gtm.experiments.config import read_config
from pyro_gtm.experiments.export import export_run
from pyro_gtm.experiments.metrics import assess
from pyro_gtm.experiments.pretrained import (
    load_pretrained,
    pretrained_folder,
    pretrained_names,
)
from pyro_gtm.experiments.run import Run
from pyro_gtm.experiments.run_folder import summary_in

PNG = b"\x89PNG\r\n\x1a\n"


def test_weights_settings_figures_and_a_card_are_written(run, folder, command_line):
    before = command_line.files(run)
    said = command_line.succeeds("export run -o model").output
    assert command_line.files(run) == before
    model = folder / "model"
    written = sorted(str(p.relative_to(model)) for p in model.rglob("*") if p.is_file())
    assert written == ["README.md", "checkpoints/step-00000021.pt", "config.json", "summary.json"]
    assert all(name in said for name in written)

    state = load_checkpoint(model / "checkpoints/step-00000021.pt")
    assert state.keys() == {"step", "window", "program", "memory"}
    trained = Run.load(run).experiment
    for part in ("program", "memory"):
        for name, value in getattr(trained, part).state_dict().items():
            rounded = state[part][name]
            assert not rounded.is_floating_point() or rounded.dtype == torch.float16
            assert rounded.to(value.dtype).allclose(value, rtol=1e-3, atol=1e-4)
    assert read_config(model / "config.json").data_dir is None
    card = (model / "README.md").read_text()
    assert "# perfect_recall, introspective memory, gaussian prior" in card
    assert "CC BY-SA 3.0" in card and "21 updates, seed 0" in card and "negative ELBO" in card


def test_it_is_listed_and_drawn_as_weights_without_a_course_of_training(run, folder, command_line):
    command_line.succeeds("export run -o model")
    assert "weights" in command_line.succeeds("runs model --format csv").output
    drawn = command_line.succeeds("plot model").output.split()
    assert "model/figures/frames.png" in drawn
    assert "model/figures/training.png" not in drawn
    command_line.refuses(
        "plot model --figure training", "figure: got 'training', must be one of kl"
    )


def test_a_run_that_has_not_ended_says_so_on_its_card(run, folder):
    unfinished = Run.load(run)
    longer = replace(unfinished.experiment.config, num_steps=100)
    unfinished.experiment.config = longer
    export_run(unfinished, folder / "model")
    assert "21 updates of 100, seed 0" in (folder / "model" / "README.md").read_text()


def test_a_model_is_generated_from_without_further_ado(run, folder, command_line):
    command_line.succeeds("export run -o model")
    command_line.succeeds("generate model")
    assert (folder / "model" / "figures" / "generated.png").read_bytes().startswith(PNG)


def test_figures_are_of_the_rounded_weights(run, folder, command_line):
    command_line.succeeds("export run -o model")
    summary = summary_in(folder / "model")
    again = assess(Run.load(folder / "model").experiment)
    assert {name: summary[name] for name in again} == again


def test_a_model_can_be_used_and_started_from_and_not_gone_on_with(run, folder, command_line):
    command_line.succeeds("export run -o model")
    command_line.succeeds("generate model -o picture.png")
    assert (folder / "picture.png").read_bytes().startswith(PNG)
    command_line.succeeds("evaluate model -o evaluation")
    said = command_line.train("--init-from model -n 1 -o new").output
    assert "Weights of" in said and "are taken" in said
    command_line.refuses("train --resume model -n 50", "weights without the state of training")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("export run", ["--output"]),
        ("export run -o run", ["output: got run, must be empty or new"]),
        ("export missing -o model", ["missing holds no run"]),
        ("generate run --pretrained perfect_recall", ["got both, must be one of them"]),
        ("generate --pretrained chess", ["'chess' is not one of", "mnist_map"]),
    ],
)
def test_what_cannot_be_is_refused(line, words, run, command_line):
    command_line.refuses(line, *words)


def test_an_unknown_model_is_named():
    with pytest.raises(ValueError, match=r"pretrained: got 'chess', must be one of .*mnist_map"):
        pretrained_folder("chess")


@pytest.mark.parametrize("name", pretrained_names())
def test_a_pretrained_model_is_what_its_card_says(name):
    """On the same held-out sequences, up to the rounding of another machine."""
    home = pretrained_folder(name)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    summary = summary_in(home)
    evaluation = (run := load_pretrained(name, "cpu")).experiment.evaluate(
        run.experiment.held_out()
    )
    expected = summary["negative_elbo_per_frame"]
    assert evaluation.negative_elbo.mean().item() == pytest.approx(expected, rel=1e-3)
    card = (home / "README.md").read_text()
    assert f"{summary['recall_accuracy']:.1%}" in card and f"{expected:.2f}" in card


def test_without_a_run_a_pretrained_model_goes_on_with_digits(folder, command_line):
    said = command_line.succeeds("generate").output
    assert said.splitlines() == [
        "perfect_recall, associative memory, as it comes along",
        "10 frames given, 5 generated: generated.png",
    ]
    assert (folder / "generated.png").read_bytes().startswith(PNG)
    command_line.succeeds("generate --pretrained mnist_map -o walk.png")
    assert Path("walk-map.png").read_bytes().startswith(PNG)
