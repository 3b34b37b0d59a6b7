"""The commands: from a file to a picture, and what is refused."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner

import pyro_gtm as gtm
from pyro_gtm.experiments.cli import main
from pyro_gtm.series.held_out import read_plan

SMALL = (
    *("-n", "3", "-b", "4", "--window", "12", "--latent-dim", "2"),
    *("--hidden-dim", "8", "--memory-option", "hidden_dim=8"),
)


def run(*command, code=0):
    result = CliRunner().invoke(main, ["series", *map(str, command)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, waves):
    """A folder with data, a model and nothing else."""
    folder = tmp_path_factory.mktemp("series")
    lines = ["id,date,level,load"]
    for n, rows in enumerate(waves(2, 40)):
        for t, (level, load, _) in enumerate(rows):
            day = np.datetime64("2026-01-01") + t
            lines.append(f"s{n},{day},{level:.4f},{'' if 10 <= t < 14 else round(load, 3)}")
    (folder / "load.csv").write_text("\n".join(lines) + "\n")
    output = run(
        "fit", "--data", folder / "load.csv", "--memory", "vrnn", "-o", folder / "m", *SMALL
    )
    assert "the naive forecast's" in output and "of load" in output
    assert "20%, by time, is held out" in output
    return folder


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_fit_leaves_a_model_and_pictures(fitted):
    names = {path.name for path in (fitted / "m").iterdir()}
    assert names == {
        "series.json", "weights.pt", "data.json", "forecast.png", "scores.png", "scores.csv",
    }  # fmt: skip
    assert json.loads((fitted / "m" / "series.json").read_text())["step"] == 3


@pytest.mark.parametrize(
    ("verb", "options", "columns", "count"),
    [
        ("forecast", "--horizon 6 -s 5 -q 0.5", ["horizon", "q0.5", "actual"], 6 * 2 * 2),
        ("impute", "-s 5", ["channel", "mean", "q0.95"], 8),
        ("surprise", "-s 2", ["kl", "reconstruction", "negative_elbo"], 80),
        ("evaluate", "--horizon 4 -s 5 --season 6", ["crps", "naive_crps"], 8),
    ],
)
def test_every_verb_leaves_a_table_and_a_picture(verb, options, columns, count, fitted, tmp_path):
    table, picture = tmp_path / "t.csv", tmp_path / "p.png"
    command = (verb, fitted / "m", "--data", fitted / "load.csv", *options.split())
    run(*command, "-o", table, "--figure", picture)
    written = rows(table)
    assert len(written) == count and set(columns) <= set(written[0])
    assert picture.read_bytes().startswith(b"\x89PNG")
    if verb == "forecast":
        assert written[0]["time"] == "2026-02-10", "the day after the last"


def test_generate_and_parquet(fitted, tmp_path):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    table = tmp_path / "t.parquet"
    run("generate", fitted / "m", "-T", 5, "-o", table, "--figure", tmp_path / "p.png")
    assert len(pandas.read_parquet(table)) == 3 * 5 * 2


def test_resume_goes_on_and_a_taken_folder_is_refused(fitted, tmp_path):
    command = ("fit", "--data", fitted / "load.csv", "--memory", "vrnn", *SMALL)
    first = tmp_path / "m"
    run(*command, "-o", first)
    again = ("fit", "--data", fitted / "load.csv", "-o", first, "--resume")
    run(*again, "-n", 5)
    assert "--latent-dim: must be left out" in run(*again, "--latent-dim", 7, code=2)
    assert json.loads((first / "series.json").read_text())["step"] == 5
    assert "must be empty or new" in run(*command, "-o", first, code=2)
    assert "holds no model to resume" in run(*again[:3], "-o", tmp_path / "x", "--resume", code=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--data nowhere.csv", "does not exist"),
        ("--data load.csv --time-column when", "no column 'when'"),
        ("--data load.csv --hold-out 2", "hold_out must lie between 0 and 1"),
        ("--data load.csv --learning-rate 0", "learning_rate must be a positive"),
        ("--data load.csv --likelihood bernoulli", "outside of what it allows ({0, 1})"),
        ("--data load.csv --memory-option size=3", "takes no option 'size'"),
        ("--data load.csv --memory vrnn --prior mixture", "must be 'gaussian'"),
        ("--data load.csv --device tpu", "device"),
        ("--data load.csv --horizon 1000000", "horizon: got 1000000, must be at most 8"),
        ("--data load.csv --batch-size 1000000000", "batch_size=1000000000"),
        ("--data load.csv --memory associative --memory-option slots=99999999999", "slots="),
        ("--data huge.csv", "less than 1e30 is allowed"),
    ],
)
def test_bad_input_to_fit_leaves_nothing(options, words, fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(fitted)
    (fitted / "huge.csv").write_text("a\n" + "1e300\n-1e300\n" * 20)
    output = tmp_path / "m"
    said = run("fit", *options.split(), "-o", output, "-n", 1, code=2)
    assert words in said and not output.exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("forecast nowhere --data load.csv --horizon 2", "holds no model of series"),
        ("forecast m --data load.csv --horizon 2 -o t.txt", "must end in .csv"),
        ("forecast m --data load.csv --horizon 2 -o load.csv", "another file than the data"),
        ("forecast m --data load.csv --horizon 2 --figure p.jpg", "must end in .png"),
        ("forecast m --data load.csv --horizon 2 -q 3", "between 0 and 1"),
        ("forecast m --data load.csv --horizon 2 --origin 99", "origin must lie"),
        ("evaluate m --data load.csv --horizon 99", "no series is long enough"),
        ("surprise m --data load.csv --num-particles 3", "within the model's window"),
        ("impute m --data whole.csv", "has no gaps to fill"),
        ("forecast m --data other.csv --horizon 2", "channels a, b, c given, the model was"),
    ],
)
def test_bad_questions_write_nothing(command, words, fitted, monkeypatch):
    monkeypatch.chdir(fitted)
    (fitted / "whole.csv").write_text("level,load\n1,2\n3,4\n5,6\n")
    (fitted / "other.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    before = set(fitted.rglob("*"))
    assert words in run(*command.split(), code=2)
    assert set(fitted.rglob("*")) == before


def test_series_of_other_lengths_are_judged_where_they_are_long_enough(tmp_path, waves):
    lines = ["id,t,a,b,c"]
    for n, length in enumerate((40, 40, 12)):
        for t, row in enumerate(waves(3, 40)[n][:length]):
            lines.append(f"s{n},{t},{','.join(map(str, row))}")
    (tmp_path / "ragged.csv").write_text("\n".join(lines))
    said = run("fit", "--data", tmp_path / "ragged.csv", "-o", tmp_path / "m", *SMALL)
    assert "CRPS" in said and (tmp_path / "m" / "forecast.png").exists()


def test_a_table_keeps_its_digits(tmp_path):
    lines = [f"{1700000000.25 + t},{1e6 + t % 3}" for t in range(40)]
    (tmp_path / "fine.csv").write_text("time,height\n" + "\n".join(lines))
    run("fit", "--data", tmp_path / "fine.csv", "-o", tmp_path / "m", *SMALL)
    out = ("-o", tmp_path / "f.csv", "--figure", tmp_path / "f.png")
    run("forecast", tmp_path / "m", "--data", tmp_path / "fine.csv", "--horizon", 3, *out)
    written = rows(tmp_path / "f.csv")
    assert [row["time"] for row in written] == ["1700000040.25", "1700000041.25", "1700000042.25"]
    assert len({row["q0.05"] for row in written} | {row["q0.95"] for row in written}) > 2


def test_the_series_held_out_are_known_by_name(tmp_path, waves):
    def write(name, ids):
        lines = ["id,t,a"]
        for n, rows_of_one in zip(ids, waves(len(ids), 24), strict=True):
            lines += [f"{n},{t},{row[0]:.4f}" for t, row in enumerate(rows_of_one)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    names = [f"s{n}" for n in range(6)]
    data = write("a.csv", names)
    run("fit", "--data", data, "--split", "series", "-o", tmp_path / "m", *SMALL)
    held_out = json.loads((tmp_path / "m" / "data.json").read_text())["held_out"]
    assert len(held_out) == 1
    more = write("b.csv", [*names, "new1", "new2"])
    plan = read_plan(tmp_path / "m")
    assert plan.apply(plan.read(more)).judged.ids == tuple(held_out)
    others = write("c.csv", ["new1", "new2"])
    assert plan.apply(plan.read(others)).judged.ids == ("new1", "new2")
    fewer = write("d.csv", names[:-1])
    command = ("fit", "--data", fewer, "-o", tmp_path / "m", "--resume", "-n", 5)
    assert "resume: other series given" in run(*command, code=2)


@pytest.mark.parametrize("option", ["--output", "--figure"])
def test_no_folder_is_made_for_a_file(option, fitted, tmp_path):
    command = ("forecast", fitted / "m", "--data", fitted / "load.csv", "--horizon", 2)
    name = "t.csv" if option == "--output" else "p.png"
    said = run(*command, option, tmp_path / "new" / name, code=2)
    assert f"{option[2:]}: got {tmp_path}/new/{name}, and {tmp_path}/new is not a folder" in said
    assert not list(tmp_path.iterdir())


def test_a_fit_that_diverges_says_so_and_leaves_nothing(fitted, tmp_path):
    command = ("fit", "--data", fitted / "load.csv", *SMALL, "-n", 9)
    said = run(*command, "-o", tmp_path / "m", "-lr", 1e30, code=1)
    assert "the loss is nan; nothing was saved. A smaller --learning-rate may help." in said
    assert not list(tmp_path.iterdir())


def test_a_forecast_beyond_the_windows_is_told_of(fitted, tmp_path):
    command = ("forecast", fitted / "m", "--data", fitted / "load.csv", "-s", 2)
    out = ("-o", tmp_path / "t.csv", "--figure", tmp_path / "p.png")
    window = gtm.series.load(fitted / "m").window
    note = f"learned from windows of {window} steps, and never to forecast {window + 1}, which"
    assert note in run(*command, *out, "--horizon", window + 1)
    assert "Note" not in run(*command, *out, "--horizon", window)


def test_a_picture_speaks_of_what_came_only_where_it_did(fitted):
    model, data = gtm.series.load(fitted / "m"), gtm.series.read(fitted / "load.csv")
    for origin, came in ((None, False), (30, True)):
        drawn = model.forecast(data, 3, num_samples=4, origin=origin).plot()
        assert ("what came" in drawn.get_suptitle()) == came


def test_a_channel_without_a_value_is_told_of(fitted, tmp_path):
    (tmp_path / "gone.csv").write_text("level,load\n1,\n2,\n3,\n")
    out = ("-o", tmp_path / "t.csv", "--figure", tmp_path / "p.png")
    said = run("forecast", fitted / "m", "--data", tmp_path / "gone.csv", "--horizon", 2, *out)
    assert "no value of load is there: what is said of it rests on the other channels" in said
    said = run("fit", "--data", tmp_path / "gone.csv", "-o", tmp_path / "m", *SMALL, code=2)
    assert "no value of load is there in the training part" in said
    assert not (tmp_path / "m").exists()


def test_a_single_row_is_followed_by_the_clock_of_the_model(tmp_path, waves):
    hours = np.datetime64("2026-01-01T00:00") + 60 * np.arange(40)
    lines = [f"{hour},{row[0]:.4f}" for hour, row in zip(hours, waves(1, 40)[0], strict=True)]
    (tmp_path / "hourly.csv").write_text("date,a\n" + "\n".join(lines).replace("T", " ") + "\n")
    (tmp_path / "one.csv").write_text("date,a\n2026-03-01,1\n")
    (tmp_path / "counted.csv").write_text("t,a\n7,1\n")
    run("fit", "--data", tmp_path / "hourly.csv", "-o", tmp_path / "m", *SMALL)
    for name, times in (
        ("one", ["2026-03-01 01:00:00", "2026-03-01 02:00:00"]),
        ("counted", ["8", "9"]),
    ):
        out = ("-o", tmp_path / "f.csv", "--figure", tmp_path / "f.png")
        data = ("--data", tmp_path / f"{name}.csv")
        run("forecast", tmp_path / "m", *data, "--horizon", 2, *out)
        assert [row["time"] for row in rows(tmp_path / "f.csv")] == times
