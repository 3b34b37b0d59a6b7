"""The page of results: from the manifest, by way of records, to tables that agree with them."""

from __future__ import annotations

import csv
import multiprocessing
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from pyro_gtm.experiments import places, run_set
from pyro_gtm.experiments.cli import main, reproducing
from pyro_gtm.experiments.reproduction import manifest
from pyro_gtm.experiments.reproduction.manifest import BUDGETS, EXPERIMENTS, Budget, rows, select
from pyro_gtm.experiments.reproduction.page import draw_experiments, fill
from pyro_gtm.experiments.reproduction.records import (
    keep_figures,
    outcomes,
    read_record,
    write_record,
    write_table,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
MADE_OF_THEM = [ROOT / "README.md", ROOT / "docs" / "results.md"]
FOLDERS = {"mnist": "digits there", "omniglot": "characters there"}


def summary(recall_kl=0.5, **more):
    return {
        "memory": "dnc",
        "prior": "gaussian",
        "posterior": "residual",
        "writes": "latent",
        "task": "perfect_recall",
        "data": "digits",
        "seed": 0,
        "num_steps": 1000,
        "parameters": 1234567,
        "device": "cpu",
        "kl_per_frame": [20.0] * 10 + [recall_kl] * 5,
        "predictable_by_frame": [0.0] * 10 + [1.0] * 5,
        "oracle_kl_per_frame": [20.0] * 10 + [0.0] * 5,
        "recall_kl": recall_kl,
        "last_frame_kl": 0.25,
        "negative_elbo_per_frame": 80.123456,
        "negative_iwae_bound_per_frame": 79.0,
        "recall_accuracy": 0.875,
        "new_frame_kl": 20.0,
        "recall_oracle_kl": 0.0,
        "last_frame_oracle_kl": 0.0,
        "recall_accuracy_chance": 0.1,
        "classifier_accuracy": None,
        "steps_per_second": 10.0,
        "provenance": {
            "commit": "abcdef0",
            "date": "2026-01-02",
            "machine": "a machine, 2 cores",
            "torch": "2.13.0",
        },
        **more,
    }


def evaluation(step, recall_kl):
    return {
        "split": "test",
        "step": step,
        "recall_kl": recall_kl,
        "last_frame_kl": recall_kl,
        "negative_elbo_per_frame": 80.0,
        "kl_per_frame": [20.0] * 10 + [recall_kl] * 5,
        "reconstruction_per_frame": 60.0,
    }


COURSE = [evaluation(s, kl) for s, kl in ((250, 0.4), (500, 5.0), (750, 0.9), (1000, 0.5))]


@pytest.fixture
def results(tmp_path):
    """Three seeds of the DNC in perfect recall, and one of the associative memory's mixture."""
    folder = tmp_path / "results"
    dnc, mixture = select("minutes", ["perfect_recall_10-dnc", "perfect_recall_10-assoc*"])[::-1]
    for seed in dnc.seeds:
        write_record(folder, dnc, dnc.config(seed, {}), summary(0.5 + seed / 10), COURSE)
    bounds = summary(memory="associative", prior="mixture", recall_accuracy=0.99)
    write_record(folder, mixture, mixture.config(0, {}), bounds, COURSE)
    return folder


def test_rows_are_the_seven_tasks_at_the_papers_sizes_and_every_memory():
    names = {row.name for row in rows("hours")}
    assert {f"{e}-{m}" for e in EXPERIMENTS for m in manifest.PUBLISHED_FIVE} <= names
    assert {f"{e}-associative" for e in EXPERIMENTS} <= names
    assert {f"{e}-{m}+mixture" for e in EXPERIMENTS for m in manifest.WITH_SLOTS} <= names
    assert len(names) == len(rows("hours")) == 11 * len(EXPERIMENTS)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_row_can_be_configured_and_all_of_an_experiment_are_trained_alike(budget):
    alike = {}
    for row in rows(budget):
        configs = [row.config(seed, FOLDERS) for seed in row.seeds]
        assert [config.seed for config in configs] == list(row.seeds)
        config = configs[0]
        shared = (config.task, config.data, config.num_steps, config.batch_size, config.schedule)
        assert alike.setdefault(row.experiment, shared) == shared
        assert (config.prior == "mixture") == row.contestant.endswith("+mixture")
        assert config.data in (
            {"digits"} if budget == "minutes" else {"mnist", "omniglot", "rooms"}
        )


def test_data_from_a_folder_is_asked_for_by_name():
    (row,) = select("hours", ["one_shot_recall-dnc"])
    assert row.config(0, FOLDERS).data_dir == "characters there"
    with pytest.raises(ValueError, match=r"--omniglot: got none, must be .* one_shot_recall-dnc"):
        row.config(0, {"mnist": "there"})


def test_rows_are_chosen_by_patterns():
    chosen = select("hours", ["mnist_map-*", "*-vrnn"])
    assert {row.experiment for row in chosen if row.contestant != "vrnn"} == {"mnist_map"}
    assert {row.contestant for row in chosen if row.experiment != "mnist_map"} == {"vrnn"}
    with pytest.raises(ValueError, match=r"--row: got 'chess-.', must match a row of .*'hours'"):
        select("hours", ["mnist_map-dnc", "chess-*"])


def test_a_record_has_no_path_of_a_machine_and_what_a_page_needs(tmp_path):
    (row,) = select("hours", ["mnist_map-dnc"])
    config = row.config(0, {"mnist": "/home/somebody/digits"})
    path = write_record(tmp_path, row, config, summary(), COURSE)
    assert path == tmp_path / "hours" / "mnist_map-dnc-0.json"
    text = path.read_text()
    assert "somebody" not in text and '"device"' not in text
    record = read_record(path)
    assert record["config"]["num_steps"] == 5_000
    assert record["summary"]["negative_elbo_per_frame"] == 80.1235
    assert [e["step"] for e in record["evaluations"]] == [250, 500, 750, 1000]
    assert "reconstruction_per_frame" not in record["evaluations"][0]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"summary": {}}', '{"summary": null}', '{"summary": []}', '{"summary": '],
)
def test_a_damaged_record_is_named(content, results):
    path = results / "minutes" / "perfect_recall_10-dnc-0.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"perfect_recall_10-dnc-0.json is damaged"):
        outcomes(results, "minutes")


def test_outcomes_are_over_the_seeds(results):
    mixture, dnc = outcomes(results, "minutes")
    assert dnc.result.seeds == 3
    assert dnc.result.recall_kl == pytest.approx(0.6)
    assert dnc.result.recall_kl_spread == pytest.approx(0.1)
    assert dnc.published.last_frame_kl == 1.5
    assert mixture.published is None, "the paper has no mixtures"
    assert dnc.minutes(cpu=True) == pytest.approx(1000 / 10 / 60)
    assert dnc.minutes(cpu=False) is None
    assert dnc.updates_to(1.0) == [750] * 3, "not 250, where it went up again"
    assert dnc.updates_to(0.1) == [None] * 3


def test_minutes_of_a_gpu_are_not_those_of_a_cpu(results, tmp_path):
    (row,) = select("minutes", ["perfect_recall_10-dnc"])
    faster = summary(0.5, steps_per_second=100.0)
    faster["provenance"]["machine"] = "Some GPU 80GB"
    write_record(results, row, row.config(2, {}), faster, COURSE)
    dnc = outcomes(results, "minutes")[1]
    assert dnc.minutes(cpu=True) == pytest.approx(1000 / 10 / 60)
    assert dnc.minutes(cpu=False) == pytest.approx(1000 / 100 / 60)
    block = "<!-- results: {} minutes{} -->\n<!-- end of results -->\n"
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    said = fill(block.format("experiment", " perfect_recall_10"), results, page)
    assert "| 2, 0.2 (GPU) | 3 |" in said
    assert "3 on a machine, 2 cores, 1 on Some GPU 80GB" in fill(
        block.format("provenance", ""), results, page
    )


def test_the_table_has_a_line_a_row(results):
    with write_table(results, "minutes").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["contestant"] for line in lines] == ["associative+mixture", "dnc"]
    assert lines[1]["recall_kl"] == "0.6" and lines[1]["commits"] == "abcdef0"


def test_blocks_of_a_page_are_made_anew_and_the_rest_stays(results, tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    kinds = (
        "experiment minutes perfect_recall_10",
        "memories minutes perfect_recall_10",
        "pictures minutes perfect_recall_10",
        "cells minutes",
        "one_nat minutes",
        "short minutes",
        "bounds minutes",
        "provenance minutes",
    )
    text = "# Mine\n" + "".join(
        f"\nwords\n<!-- results: {kind} -->\nthe one before\n<!-- end of results -->\nmore\n"
        for kind in kinds
    )
    draw_experiments(results, "minutes")
    filled = fill(text, results, page)
    assert fill(filled, results, page) == filled
    assert "the one before" not in filled
    assert filled.count("words\n") == filled.count("more\n") == len(kinds)
    table = filled.split("words\n")[1]
    assert "| dnc | 87.5 ± 0.0 (10.0) | 0.60 ± 0.10 | 0.25 ± 0.00 | 1.50 | 0.00 |" in table
    assert "| `dnc` | 87.5 ± 0.0 | 0.60 ± 0.10 | 0.25 ± 0.00 | 80.1 ± 0.0 | 1,234,567 |" in filled
    assert "| associative+mixture | 99.0 (10.0) | ≤ 0.50 | ≤ 0.25 | – |" in table
    assert "The paper's best: last-frame KL 0 (introspective), negative ELBO 76.2" in table
    assert "Not run: introspective." in table
    assert "](../results/figures/minutes-perfect_recall_10.png)" in table
    assert "](../results/figures/minutes-perfect_recall_10-mixture.png)" in table
    assert "**0.25** / 1.5" in filled and "1 of 1" in filled
    assert "| `perfect_recall_10` | dnc | 750, 750, 750 | 1.2 |" in filled
    assert "| `perfect_recall_10` | 80.1 | 1,000 | 1 | 76.2 (introspective) | 1,000,000 |" in filled
    assert "4 runs, 1 to 3 seeds a row: 4 on a machine, 2 cores" in filled

    at_the_top = fill(text, results, tmp_path / "README.md")
    assert "](results/figures/minutes-perfect_recall_10.png)" in at_the_top


@pytest.mark.parametrize(
    "what, words",
    [
        ("chess minutes", "got the block 'chess minutes', must be KIND BUDGET"),
        ("cells", "got the block 'cells', must be KIND BUDGET"),
        ("cells years", "got the block 'cells years', must be KIND BUDGET"),
        ("experiment minutes chess", "got 'chess', must be one of perfect_recall_10"),
        ("experiment minutes", "got the block 'experiment minutes', must name an experiment"),
        ("short minutes mnist_map", "'short minutes mnist_map', must name no experiment"),
    ],
)
def test_an_unknown_block_is_named(what, words, results, tmp_path):
    text = f"<!-- results: {what} -->\n<!-- end of results -->"
    with pytest.raises(ValueError, match=f"page.md: .*{words}"):
        fill(text, results, tmp_path / "page.md")


def test_figures_are_kept_in_few_colours(tmp_path):
    (row,) = select("minutes", ["mnist_map-dnc"])
    drawn = tmp_path / "run" / "figures"
    drawn.mkdir(parents=True)
    for name, colour in (("map", "red"), ("frames", "blue"), ("attention", "white")):
        Image.new("RGB", (40, 30), colour).save(drawn / f"{name}.png")
    samples, attention = keep_figures(tmp_path / "results", row, tmp_path / "run")
    assert samples.name == "minutes-mnist_map-dnc-samples.png"
    assert attention.name == "minutes-mnist_map-dnc-attention.png"
    with Image.open(samples) as image:
        assert image.mode == "P" and image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


@pytest.fixture
def tiny_budget(monkeypatch):
    monkeypatch.setitem(
        BUDGETS,
        "minutes",
        Budget(2, experiments=("perfect_recall_10",), contestants=("vrnn", "dnc+mixture")),
    )
    small = {"preset": "debug", "warmup": 0, "eval_sequences": 2}
    monkeypatch.setattr(manifest, "SETTINGS", small)
    monkeypatch.setattr(places, "PROCESSES", multiprocessing.get_context("fork"))
    monkeypatch.setattr(run_set, "POLL", 0.02)
    monkeypatch.setattr("pyro_gtm.internals.files.os.fsync", lambda descriptor: None)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_command_trains_records_and_writes_and_the_next_only_writes(
    tiny_budget, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "README.md"
    page.write_text("<!-- results: short minutes -->\n<!-- end of results -->\n")

    def said(*arguments):
        result = CliRunner().invoke(main, ["reproduce", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "perfect_recall_10-vrnn         0 of 3 seeds recorded" in said("--list")
    assert "nothing is written" in said("--write")
    first = said("--row", "*-dnc+mixture", "--jobs", "2")
    assert "1 row, 3 runs, 3 of them to be trained, in runs/reproduce/minutes" in first
    records = sorted(path.name for path in (tmp_path / "results" / "minutes").iterdir())
    assert records == [f"perfect_recall_10-dnc+mixture-{seed}.json" for seed in range(3)]
    figures = {path.name for path in (tmp_path / "results" / "figures").iterdir()}
    assert figures == {
        "minutes-perfect_recall_10-mixture.png",
        "minutes-perfect_recall_10-dnc+mixture-samples.png",
        "minutes-perfect_recall_10-dnc+mixture-attention.png",
    }
    before = (tmp_path / "results" / "minutes" / records[0]).read_bytes()
    assert "0 of them to be trained" in said("--row", "*-dnc+mixture")
    assert (tmp_path / "results" / "minutes" / records[0]).read_bytes() == before
    assert "3 of 3 seeds recorded" in said("--list")


@pytest.mark.parametrize("page", MADE_OF_THEM, ids=lambda path: path.name)
def test_the_pages_of_this_repository_agree_with_its_records(page):
    text = page.read_text()
    assert fill(text, RESULTS, page) == text, "run: pyro-gtm reproduce --write --budget ..."


def test_every_record_of_this_repository_is_small_whole_and_of_the_manifest():
    kept = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 1_000_000 for path in kept)
    for budget in BUDGETS:
        names = {row.run_name(seed): row for row in rows(budget) for seed in row.seeds}
        for path in sorted((RESULTS / budget).glob("*.json")):
            record = read_record(path)
            row = names[path.stem]
            asked = row.config(record["config"]["seed"], FOLDERS)
            for setting, value in record["config"].items():
                assert value == getattr(asked, setting), (path.name, setting)
            assert not record["summary"]["provenance"]["commit"].endswith("+"), path.name
    assert not any(
        re.search(r"/(home|work|tmp)/", path.read_text()) for path in kept if path.suffix != ".png"
    )


def refused(*arguments):
    result = CliRunner().invoke(main, ["reproduce", *arguments])
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    return result.output


def test_what_cannot_be_written_or_read_is_said_before_anything_is_trained(
    tiny_budget, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    row = ("--row", "*-vrnn")
    (tmp_path / "file").touch()
    assert "--results: got file/results, cannot be written to" in refused(
        *row, "--results", "file/results"
    )
    assert "--output: got file/runs/minutes, cannot be" in refused(*row, "-o", "file/runs")
    page = tmp_path / "README.md"
    page.write_text("<!-- results: chess minutes -->\n<!-- end of results -->\n")
    assert "README.md: got the block 'chess minutes'" in refused(*row)
    page.write_bytes(b"caf\xe9")
    assert "README.md is not UTF-8" in refused(*row)
    page.unlink()
    assert "--list and --write: got both" in refused("--list", "--write")
    assert "--write and --row: got both" in refused("--write", *row)
    budget = ("--budget", "hours", "--row", "mnist_map-vrnn")
    assert "--mnist: got nowhere, must be the folder of its files" in refused(
        *budget, "--mnist", "nowhere"
    )
    assert not list((tmp_path / "runs").rglob("*.json"))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_record_that_cannot_be_written_loses_no_run(tiny_budget, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def full_for_one(results, row, config, *more):
        if config.seed == 1:
            raise OSError(28, "No space left on device")
        return write_record(results, row, config, *more)

    monkeypatch.setattr(reproducing, "write_record", full_for_one)
    result = CliRunner().invoke(main, ["reproduce", "--row", "*-vrnn"])
    assert result.exit_code == 1
    assert "perfect_recall_10-vrnn-1: its record cannot be written" in result.output
    assert "1 record could not be written" in result.output
    runs = tmp_path / "runs" / "reproduce" / "minutes"
    assert len(list(runs.glob("*/summary.json"))) == 3
    assert len(list((tmp_path / "results" / "minutes").iterdir())) == 2


WALKS = "<!-- results: walks -->\n<!-- end of results -->\n"


def test_walks_over_patches_are_told_from_their_table(tmp_path):
    head = "contestant,seed,parameters,steps,negative_elbo,minutes,overall,1-8,never"
    head += ",commit,date,machine"
    made = "abcdef0,2026-01-02,a machine"
    (tmp_path / "patch_walk.csv").write_text(
        f"{head}\nrssm,0,9000,100,1.0,6.0,20.0,10.0,40.0,{made}\n"
        f"rssm,1,9000,300,1.0,6.0,22.0,10.0,40.0,{made}\nmean patch,,,,,,,38.0,39.0,{made}\n"
    )
    said = fill(WALKS, tmp_path, tmp_path / "page.md")
    assert "| rssm | 9,000 | 200 | 6.0 ± 0.0 | 21.0 ± 1.4 | 10.0 ± 0.0 | 40.0 ± 0.0 | 2 |" in said
    assert "| mean patch | – | – | – | – | 38.0 | 39.0 | – |" in said
    assert "a machine, 2026-01-02, commit abcdef0" in said


def test_without_a_table_the_block_stays(tmp_path):
    assert fill(WALKS, tmp_path, tmp_path / "page.md") == WALKS


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n"])
def test_of_another_table_one_sentence_says_so(content, tmp_path):
    (tmp_path / "patch_walk.csv").write_text(content)
    with pytest.raises(ValueError, match=r"patch_walk.csv is no table of benchmarks/patch_walk.py"):
        fill(WALKS, tmp_path, tmp_path / "page.md")


def test_blocks_of_a_budget_without_records_stay_as_they_are(results, tmp_path):
    text = "<!-- results: short full -->\nas before\n<!-- end of results -->\n"
    assert fill(text, results, tmp_path / "page.md") == text
