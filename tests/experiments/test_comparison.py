"""Memories side by side: what is computed, what is kept, and that nothing is trained twice.

Here processes are forked, which is quick and takes what a test has patched along;
``cli/test_compare.py`` has the command as it is, with true signals.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
from dataclasses import replace

import pyro
import pytest
import torch
from matplotlib.figure import Figure

from pyro_gtm.experiments import places, plotting, run_set
from pyro_gtm.experiments.comparison import Comparison
from pyro_gtm.experiments.comparison_table import (
    FACTS,
    METRICS,
    REFERENCES,
    markdown_report,
    over_seeds,
)
from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.published import Published
from pyro_gtm.experiments.run import Run, RunError
from pyro_gtm.experiments.run_folder import summary_in
from pyro_gtm.experiments.run_set import FailedRunsError, Stopped
from pyro_gtm.memory.registry import MEMORIES

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
STEPS = 8  # evaluations after 4 and 8; checkpoints too
PNG = b"\x89PNG\r\n\x1a\n"

draw = Experiment.draw


def make_quick(monkeypatch):
    monkeypatch.setattr(places, "PROCESSES", multiprocessing.get_context("fork"))
    monkeypatch.setattr(run_set, "POLL", 0.02)
    monkeypatch.setattr(run_set, "draw_figures", lambda run: [])
    monkeypatch.setattr("pyro_gtm.internals.files.os.fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    make_quick(monkeypatch)


def tiny(memory="vrnn", seed=0, **overrides):
    settings = {
        "task_options": {"list_length": 2, "recall_length": 1},
        "latent_dim": 3,
        "hidden_dim": 6,
        "num_steps": STEPS,
        "batch_size": 2,
        "log_every": 4,
        "eval_every": 4,
        "eval_sequences": 4,
        "save_every": 4,
        "device": "cpu",
    }
    return make_config("debug", **{**settings, "memory": memory, "seed": seed, **overrides})


def seeds_of(memory="vrnn", seeds=2, **overrides):
    return [tiny(memory, seed, **overrides) for seed in range(seeds)]


class Told(list):
    """What a comparison tells of: names and events, in the order in which they come."""

    def __call__(self, name, event, row):
        self.append((name.removeprefix("perfect_recall-"), event))


def everything(folder):
    """Every file and folder below, when it was written, and what is in it."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def summary_of(folder, name):
    return summary_in(folder / name)


def outcome(run):
    """What must not depend on how a run was stopped and continued."""
    summary = summary_of(run.parent, run.name)
    del summary["steps_per_second"], summary["provenance"]
    return summary, (run / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def trained(tmp_path_factory):
    """Two memories, two seeds; trained once, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("trained") / "comparison"
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        # What PyTorch imports in its first step, every fork has then from this process.
        Run.start(folder.parent / "first", tiny(num_steps=1)).train()
        Comparison(folder, seeds_of("ntm") + seeds_of()).train(jobs=2)
    return folder


def test_results_are_means_and_spreads_of_the_summaries(trained):
    comparison = Comparison(trained, seeds_of("ntm") + seeds_of())
    ntm, vrnn = comparison.results()
    assert (ntm.memory, vrnn.memory) == ("ntm", "vrnn")
    for result in (ntm, vrnn):
        summaries = [summary_of(trained, f"perfect_recall-{result.memory}-{s}") for s in (0, 1)]
        assert (result.task, result.seeds, result.num_steps) == ("perfect_recall", 2, STEPS)
        assert result.parameters == summaries[0]["parameters"]
        for figure in ("recall_kl", "last_frame_kl", "negative_elbo_per_frame"):
            one, other = (summary[figure] for summary in summaries)
            assert one != other, "seeds differ"
            assert getattr(result, figure) == pytest.approx((one + other) / 2)
            assert getattr(result, f"{figure}_spread") == pytest.approx(abs(one - other) / 2**0.5)


def test_tables_and_figures_are_written(trained):
    comparison = Comparison(trained, seeds_of("ntm") + seeds_of())
    paths = comparison.write()
    assert [path.name for path in paths] == ["results.csv", "results.md", "perfect_recall.png"]
    rows = list(csv.DictReader((trained / "results.csv").read_text().splitlines()))
    for row, result in zip(rows, comparison.results(), strict=True):
        known = {name: value for name, value in vars(result).items() if value is not None}
        assert row == {**dict.fromkeys(row, ""), **{n: str(value) for n, value in known.items()}}
        assert row.keys() == vars(result).keys()
    table = (trained / "results.md").read_text()
    assert table == markdown_report(comparison.results()) + "\n"
    ntm, _ = comparison.results()
    recall = f"{ntm.recall_kl:.2f} ± {ntm.recall_kl_spread:.2f} (0.00)"
    assert f"| perfect_recall (digits) | ntm | {ntm.new_frame_kl:.2f} | {recall} |" in table
    assert table.startswith("8 steps, held-out sequences") and "*In the paper*" not in table
    assert (trained / "perfect_recall.png").read_bytes().startswith(PNG)


def test_one_seed_has_no_spread_and_nothing_predictable_no_recall_kl(trained):
    (result,) = Comparison(trained, seeds_of(seeds=1)).results()
    assert (result.seeds, result.recall_kl_spread) == (1, None)
    figures = f"| {result.recall_kl:.2f} (0.00) | {result.last_frame_kl:.2f} (0.00) |"
    assert figures in markdown_report([result])
    nothing = replace(
        result, recall_kl=None, recall_oracle_kl=None, last_frame_kl=3.0, recall_accuracy=None
    )
    nothing = replace(nothing, recall_accuracy_chance=None)
    assert "| – | 3.00 (0.00) | – |" in markdown_report([nothing])
    assert markdown_report([nothing]).endswith("| – | – | 1 |")


def test_the_papers_values_stand_beside_ours_where_it_has_them(trained):
    (result,) = Comparison(trained, seeds_of(seeds=1)).results()
    assert result.published_updates is None, "the paper has no lists of two"
    published = Published(1_000_000, last_frame_kl=8.0, negative_elbo_per_frame=82.8)
    summary = summary_of(trained, "perfect_recall-vrnn-0")
    beside = over_seeds([summary], published)
    assert beside.published_updates == 1_000_000
    elbo = f"{result.negative_elbo_per_frame:.2f}"
    iwae = f"{result.negative_iwae_bound_per_frame:.2f}"
    assert f"(0.00) | 8 | {elbo} | {iwae} | 82.8 |" in markdown_report([beside])
    assert "after 1,000,000 updates" in markdown_report([beside])


def test_a_memory_with_either_prior_is_in_one_table_which_says_what_its_kl_is(
    tmp_path, monkeypatch
):
    recalling = {"prior": "mixture", "posterior": "frame", "writes": "mean"}
    plain = {"posterior": "direct", "writes": "latent"}
    comparison = Comparison(
        tmp_path, [tiny("associative", **plain), tiny("associative", **recalling)]
    )
    comparison.train()
    gaussian, mixture = comparison.results()
    assert [result.prior for result in (gaussian, mixture)] == ["gaussian", "mixture"]
    assert (tmp_path / "perfect_recall-associative+mixture-0" / "summary.json").is_file()
    table = markdown_report([gaussian, mixture])
    lines = table.splitlines()[-2:]
    assert f"| associative | {gaussian.new_frame_kl:.2f} | {gaussian.recall_kl:.2f} (" in lines[0]
    bounds = f"| ≤ {mixture.new_frame_kl:.2f} | ≤ {mixture.recall_kl:.2f} ("
    assert f"| associative+mixture {bounds}" in lines[1]
    assert f"| ≤ {mixture.last_frame_kl:.2f} (" in lines[1]
    assert "gaussian: posterior direct, writes latent; mixture: posterior frame" in table
    assert "marked ≤, and not to be compared" in table
    assert "≤" not in markdown_report([gaussian])
    drawn = []
    monkeypatch.setattr(
        plotting,
        "memories_compared",
        lambda curves, *_, **more: drawn.append((set(curves), more)) or Figure(),
    )
    comparison.write()
    Comparison(tmp_path, [tiny("associative", **recalling)]).write()
    (both, of_both), (one, of_one) = drawn
    assert (both, one) == ({"associative", "associative+mixture"}, {"associative+mixture"})
    assert of_both["bounds"] == of_one["bounds"] == {"associative+mixture"}
    assert of_both["oracle_kl"] is None, "there is no mean of a KL and a bound"
    assert len(of_one["oracle_kl"]) == 3
    with pytest.raises(ValueError, match=r"prior and seed twice"):
        Comparison(tmp_path, [tiny("associative", **recalling)] * 2)
    with pytest.raises(ValueError, match=r"prior: got 'mixture', must be 'gaussian' for memory"):
        Comparison(tmp_path / "vrnn", [tiny("vrnn", **recalling)])


def test_only_finished_runs_count(trained):
    comparison = Comparison(trained, seeds_of(seeds=3))
    assert [result.seeds for result in comparison.results()] == [2]
    assert Comparison(trained, seeds_of("dnc")).results() == []


def test_finished_runs_are_kept_and_later_seeds_alone_are_trained(tmp_path):
    told = Told()
    Comparison(tmp_path, seeds_of(seeds=1)).train(progress=told)
    assert told == [("vrnn-0", "begins"), ("vrnn-0", "finished")]
    before = everything(tmp_path / "perfect_recall-vrnn-0")
    told.clear()
    comparison = Comparison(tmp_path, seeds_of(seeds=3))
    comparison.train(progress=told)
    assert told == [(f"vrnn-{seed}", e) for seed in (1, 2) for e in ("begins", "finished")]
    assert everything(tmp_path / "perfect_recall-vrnn-0") == before
    told.clear()
    before = everything(tmp_path)
    comparison.train(progress=told)
    assert (told, everything(tmp_path)) == ([], before)


def test_a_run_is_what_it_would_be_alone(trained, tmp_path):
    run = Run.start(tmp_path / "perfect_recall-vrnn-1", tiny(seed=1))
    run.train()
    run.write_summary(1.0, STEPS)
    assert outcome(run.folder) == outcome(trained / run.folder.name)


@pytest.mark.parametrize("stopped_after", [0, 3, 5, STEPS])
def test_a_begun_run_goes_on_exactly(stopped_after, trained, tmp_path):
    """Also one that has all steps but no summary yet."""

    def stop(row):
        if row["step"] == stopped_after < STEPS and "loss" in row:
            os.kill(os.getpid(), signal.SIGTERM)

    run = Run.start(tmp_path / "perfect_recall-vrnn-0", tiny())
    if stopped_after:
        try:
            run.train(stop)
        except run_set.Interrupted as stopped:
            assert stopped.step == stopped_after
    begun = []
    Comparison(tmp_path, [tiny()]).train(progress=lambda *event: begun.append(event))
    assert begun[0] == (run.folder.name, "begins", {"step": stopped_after})
    assert outcome(run.folder) == outcome(trained / run.folder.name)


def test_an_orphan_leaves_a_run_to_the_set_that_goes_on_with_it(tmp_path, monkeypatch):
    """One that has waited for the folder, its own set having been killed meanwhile."""
    run = Run.start(tmp_path / "run", tiny())
    run.train()
    before = everything(run.folder)
    monkeypatch.setattr(run_set, "_is_orphan", lambda: True)
    with pytest.raises(run_set.Interrupted):
        run_set._trained(run.folder, tiny(), False)
    assert everything(run.folder).keys() == before.keys(), "no summary, no figures"


def test_a_folder_left_by_a_kill_before_the_configuration_is_used(tmp_path):
    for name in ("checkpoints", "figures"):
        (tmp_path / "perfect_recall-vrnn-0" / name).mkdir(parents=True)
    comparison = Comparison(tmp_path, [tiny()])
    comparison.train()
    assert comparison.finished("perfect_recall-vrnn-0")


@pytest.mark.parametrize("content", ["", "[]", '{"num_steps": 8}'])
def test_a_damaged_summary_is_made_again(content, tmp_path):
    comparison = Comparison(tmp_path, [tiny()])
    comparison.train()
    whole = summary_of(tmp_path, "perfect_recall-vrnn-0")
    (tmp_path / "perfect_recall-vrnn-0" / "summary.json").write_text(content)
    assert comparison.results() == []
    comparison.train()
    again = summary_of(tmp_path, "perfect_recall-vrnn-0")
    assert {**again, "steps_per_second": 0} == {**whole, "steps_per_second": 0}


def test_more_steps_go_on_from_the_end(tmp_path):
    Comparison(tmp_path, [tiny(num_steps=4)]).train()
    comparison = Comparison(tmp_path, [tiny()])
    assert comparison.results() == []
    comparison.train()
    assert [result.num_steps for result in comparison.results()] == [STEPS]
    assert read_config(tmp_path / "perfect_recall-vrnn-0" / "config.json").num_steps == STEPS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.5}, ["learning_rate: got 0.5, must be 0.002 as in"]),
        ({"task_options": {"list_length": 3}}, ["task option list_length: got 3, must be 2 as in"]),
        (
            {"memory_options": {"hidden_dim": 5}},
            ["memory option hidden_dim: got 5, must be 16 as in"],
        ),
        (
            {"memory_options": {"scale": 5}},
            ["memory option scale: got 5, must be 'its default' as in"],
        ),
        ({"num_steps": 5}, ["num_steps: got 5, must be at least 8 as in"]),
    ],
)
def test_other_settings_are_refused(settings, words, trained):
    before = everything(trained)
    with pytest.raises(RunError) as caught:
        Comparison(trained, [tiny("dnc"), tiny(**settings)])
    for word in [*words, str(trained / "perfect_recall-vrnn-0"), "choose another output folder"]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(trained) == before


def test_settings_that_a_resumed_run_may_change_are_not_refused(trained):
    Comparison(trained, [tiny(device="auto")])


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "perfect_recall-vrnn-0").write_text("a file")
    with pytest.raises(RunError, match="holds something that is no run: choose another"):
        Comparison(tmp_path, [tiny()])
    (tmp_path / "perfect_recall-vrnn-1").mkdir()
    (tmp_path / "perfect_recall-vrnn-1" / "letter.txt").write_text("a letter")
    with pytest.raises(RunError, match="holds something that is no run: choose another"):
        Comparison(tmp_path, [tiny(seed=1)])
    (tmp_path / "perfect_recall-vrnn-1" / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config.json is damaged"):
        Comparison(tmp_path, [tiny(seed=1)])


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        (lambda: [], "at least one task, memory and seed"),
        (lambda: [tiny(), tiny()], "a task, memory, prior and seed twice"),
        (lambda: [tiny(), tiny("nope")], "memory: got 'nope', must be one of"),
        (lambda: [tiny(), tiny("ntm", memory_options={"slots": 0})], "slots"),
        (lambda: [tiny(), tiny(task_options={"recall_length": 9}, seed=1)], "recall_length"),
        (lambda: [tiny(device="nonsense")], "device: got 'nonsense', must be auto"),
    ],
)
def test_the_impossible_is_refused_before_there_is_a_folder(configs, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        Comparison(tmp_path / "new", configs())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_jobs_are_refused(jobs, tmp_path):
    with pytest.raises(ValueError, match=f"jobs: got {jobs}, must be a positive integer"):
        Comparison(tmp_path / "new", [tiny()]).train(jobs)
    assert not (tmp_path / "new").exists()


def spoil(monkeypatch, act):
    """Have something happen in the third step of vrnn's seed 0."""
    drawn = []

    def spoilt(self):
        frames, controls = draw(self)
        if (self.config.memory, self.config.seed) == ("vrnn", 0):
            drawn.append(1)
            if len(drawn) == 3:
                return act(frames), controls
        return frames, controls

    monkeypatch.setattr(Experiment, "draw", spoilt)


def failure(comparison, jobs=1):
    told = Told()
    with pytest.raises(FailedRunsError) as caught:
        comparison.train(jobs, told)
    assert "\n" not in str(caught.value)
    assert ("vrnn-0", "failed") in told
    assert list(caught.value.reasons) == ["perfect_recall-vrnn-0"]
    assert str(caught.value).startswith("1 of 3 runs failed: perfect_recall-vrnn-0: ")
    return caught.value.reasons["perfect_recall-vrnn-0"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_loss_that_is_not_a_number_is_named_and_the_others_finish(jobs, tmp_path, monkeypatch):
    comparison = Comparison(tmp_path, [*seeds_of(), tiny("lru")])
    with monkeypatch.context() as patch:
        spoil(patch, lambda frames: frames * torch.nan)
        reason = failure(comparison, jobs)
    assert reason.startswith("training stopped in step 3: ")
    assert [(result.memory, result.seeds) for result in comparison.results()] == [
        ("vrnn", 1),
        ("lru", 1),
    ]
    told = Told()
    comparison.train(progress=told)
    assert told == [("vrnn-0", "begins"), ("vrnn-0", "finished")]


def test_a_process_that_is_killed_is_named_and_the_others_finish(tmp_path, monkeypatch):
    spoil(monkeypatch, lambda frames: os.kill(os.getpid(), signal.SIGKILL))
    comparison = Comparison(tmp_path, [*seeds_of(), tiny("lru")])
    assert failure(comparison) == ("its process was ended by signal 9, perhaps for want of memory")
    assert len(comparison.results()) == 2


def test_a_run_that_alone_is_stopped_is_named(tmp_path, monkeypatch):
    def stop(frames):
        os.kill(os.getpid(), signal.SIGTERM)
        return frames

    spoil(monkeypatch, stop)
    comparison = Comparison(tmp_path, [*seeds_of(), tiny("lru")])
    assert failure(comparison) == "interrupted after step 3"


def test_a_mistake_in_the_code_is_shown(tmp_path, monkeypatch, capfd):
    spoil(monkeypatch, lambda frames: frames.no_such_thing)
    reason = failure(Comparison(tmp_path, [*seeds_of(), tiny("lru")]))
    assert reason == "AttributeError: 'Tensor' object has no attribute 'no_such_thing'"
    assert "Traceback" in capfd.readouterr().err


def test_a_damaged_checkpoint_is_named(tmp_path):
    run = Run.start(tmp_path / "perfect_recall-vrnn-0", tiny())
    run.train()
    run.checkpoints()[-1].write_bytes(b"damaged")
    reason = failure(Comparison(tmp_path, [*seeds_of(), tiny("lru")]))
    assert "step-00000008.pt" in reason and "remove the damaged file" in reason


def test_modules_are_imported_where_the_training_is(tmp_path, monkeypatch):
    """A fork would have the memory already: it is forgotten first, as if processes were new."""
    (tmp_path / "my_memory_of_comparison.py").write_text(
        "import pyro_gtm as gtm\n\n\n"
        "@gtm.register_memory('mine')\nclass Mine(gtm.RecurrentMemory):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MEMORIES, "classes", dict(MEMORIES.classes))
    __import__("my_memory_of_comparison")
    comparison = Comparison(tmp_path / "new", [tiny("mine")])
    del sys.modules["my_memory_of_comparison"], MEMORIES.classes["mine"]
    with pytest.raises(FailedRunsError, match="memory: got 'mine', must be one of"):
        comparison.train()
    with pytest.raises(FailedRunsError, match="No module named 'no_such_module'"):
        comparison.train(modules=["no_such_module"])
    comparison.train(modules=["my_memory_of_comparison"])
    assert comparison.finished("perfect_recall-mine-0")


def test_training_leaves_this_process_alone(tmp_path):
    """Making a comparison does not: it builds, and that empties Pyro's store."""
    comparison = Comparison(tmp_path, [tiny()])
    pyro.param("mine", torch.ones(2))
    rng_state, threads = torch.get_rng_state(), torch.get_num_threads()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    comparison.train()
    assert list(pyro.get_param_store()) == ["mine"]
    assert torch.get_rng_state().equal(rng_state) and torch.get_num_threads() == threads
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_no_more_runs_at_a_time_than_jobs(tmp_path):
    at_work, most = set(), []

    def note(name, event, row):
        (at_work.add if event == "begins" else at_work.discard)(name)
        most.append(len(at_work))

    Comparison(tmp_path, seeds_of(seeds=3)).train(2, note)
    assert max(most) == 2


def test_where_the_runs_are_is_reported(tmp_path, monkeypatch):
    """The run waits in its sixth step until a report with a row has come."""
    monkeypatch.setattr(run_set, "REPORT_EVERY", 0.0)
    reported, drawn, rows = multiprocessing.get_context("fork").Event(), [], []

    def waiting(self):
        drawn.append(1)
        if len(drawn) == 6:
            reported.wait()
        return draw(self)

    def note(name, event, row):
        if event == "is at":
            rows.append(row)
            if row:
                reported.set()

    monkeypatch.setattr(Experiment, "draw", waiting)
    Comparison(tmp_path, [tiny()]).train(progress=note)
    assert all(row == {} or "negative_elbo_per_frame" in row for row in rows)
    steps = [row["step"] for row in rows if row]
    assert steps and steps == sorted(steps)


def test_a_full_disk_under_tensorboard_leaves_the_look_for_the_parent(tmp_path, monkeypatch):
    """Where the process of the set is killed later on, the run still stops with its state saved."""
    pytest.importorskip("tensorboard")
    written = []

    def full(board, row):
        written.append(row)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_set.TensorBoardLog, "__call__", full)
    monkeypatch.setattr(run_set, "_is_orphan", lambda: len(written) > 0)
    outcome = run_set.train_run(tmp_path / "run", tiny(), (), tensorboard=True)
    assert outcome == ("failed", {"reason": "interrupted after step 2"})
    assert len(written) == 1
    assert Run.load(tmp_path / "run").step == 2


LONG = 100_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_has_saved_and_begins_no_other(number, tmp_path, monkeypatch):
    """The signal reaches the comparison alone, which passes it on."""
    monkeypatch.setattr(run_set, "REPORT_EVERY", 0.0)
    told, answers, sent = Told(), [], []

    def stop(name, event, row):
        told(name, event, row)
        if event == "is at" and row and not sent:
            sent.append(os.kill(os.getpid(), number))

    comparison = Comparison(tmp_path, seeds_of(seeds=3, num_steps=LONG))
    with pytest.raises(Stopped) as caught:
        comparison.train(1, stop, lambda: answers.append("stopping"))
    assert (caught.value.signal, answers) == (number, ["stopping"])
    assert set(told) == {("vrnn-0", "begins"), ("vrnn-0", "is at")}
    assert [path.name for path in tmp_path.iterdir()] == ["perfect_recall-vrnn-0"]
    taken = comparison.steps_taken("perfect_recall-vrnn-0")
    rows = (tmp_path / "perfect_recall-vrnn-0" / "metrics.jsonl").read_text().splitlines()
    assert 0 <= taken - json.loads(rows[-1])["step"] < 4, "it was saved where it was"
    assert multiprocessing.active_children() == []
    (tmp_path / "perfect_recall-vrnn-0" / "config.json").write_text(tiny(num_steps=taken).to_json())
    Comparison(tmp_path, [tiny(num_steps=taken + 4)]).train()
    reference = tmp_path / "reference"
    Comparison(reference, [tiny(num_steps=taken + 4)]).train()
    name = "perfect_recall-vrnn-0"
    assert outcome(tmp_path / name) == outcome(reference / name)


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(run_set, "REPORT_EVERY", 0.0)

    def stop(name, event, row):
        if event == "is at" and row:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Comparison(tmp_path, seeds_of(num_steps=LONG)).train(2, stop)
    assert multiprocessing.active_children() == []


def test_an_error_of_the_callers_leaves_no_process(tmp_path):
    def fail(name, event, row):
        if name.endswith("1"):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Comparison(tmp_path, seeds_of(num_steps=LONG)).train(2, fail)
    assert multiprocessing.active_children() == []


def test_a_comparison_that_is_killed_takes_its_runs_along(tmp_path):
    comparison = Comparison(tmp_path, [tiny(num_steps=LONG)])
    reading, writing = os.pipe()  # that end, when nobody is left to hold it open
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            comparison.train()
        finally:
            os._exit(1)
    os.close(writing)
    metrics = tmp_path / "perfect_recall-vrnn-0" / "metrics.jsonl"
    while not metrics.exists() or not metrics.read_text():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it trained"
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b""
    os.close(reading)
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert last["step"] <= comparison.steps_taken("perfect_recall-vrnn-0") < LONG


def test_trains_outside_the_main_thread(tmp_path):
    """Where no signal can be caught."""
    comparison = Comparison(tmp_path, [tiny()])
    thread = threading.Thread(target=comparison.train)
    thread.start()
    thread.join()
    assert comparison.finished("perfect_recall-vrnn-0")


def test_spread_is_that_of_a_sample():
    """Not of a population: the seeds stand for all others."""
    values = [1.0, 2.0, 4.0]
    base = {**dict.fromkeys(FACTS, "a word"), "num_steps": 1, "parameters": 1}
    figures = (*METRICS, *REFERENCES)
    rows = [{**base, **dict.fromkeys(figures, value)} for value in values]
    result = over_seeds(rows, None)
    assert result.recall_kl_spread == pytest.approx(statistics.stdev(values))
