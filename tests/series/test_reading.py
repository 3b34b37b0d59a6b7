"""Files of every format, and those that are refused: one sentence each, and no memory taken."""

import io
import json
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pyro_gtm.experiments.cli import main
from pyro_gtm.series import DataFileError, read, series_of_frame


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_header(shape, dtype="<f8", body=b""):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + body


def npz(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def png(size=(4, 4), mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "png")
    return buffer.getvalue()


def bomb(side):
    """A PNG whose header alone declares a size."""

    def chunk(kind, body):
        whole = kind + body
        return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def refused(path, words):
    """In Python with one sentence; on the command line with it, exit code 2 and nothing written."""
    with pytest.raises(DataFileError, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    before = set(path.parent.rglob("*"))
    output = path.parent / "new" / "model"
    command = ["series", "fit", "--data", str(path), "--output", str(output)]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.output) == (2, f"Error: {caught.value}\n")
    assert set(path.parent.rglob("*")) == before


def test_wide_table_with_ids_times_gaps_and_controls(tmp_path):
    text = "id,date,a,b,holiday\n"
    text += "x,2026-01-02,3,,1\nx,2026-01-01,1,2,0\nx,2026-01-05,4,5,0\ny,2026-01-01,NA,7,1\n"
    path = write(tmp_path, "t.csv", text)
    with pytest.raises(DataFileError, match="lacks rows in x, and its controls"):
        read(path, controls=["holiday"])
    data = read(path)
    assert data.ids == ("x", "y") and data.channels == ("a", "b", "holiday")
    assert data.lengths.tolist() == [5, 1]
    assert data.values[:, 0, 0].tolist()[:2] == [1.0, 3.0], "in the order of time"
    assert data.values[2:4, 0].isnan().all(), "days without a row are gaps"
    assert "2 of 5 steps have no row" in data.notes[1]
    assert data.notes[0] == "columns: values a, b, holiday; series id; times date."


def test_long_table_is_the_wide_one(tmp_path):
    wide = write(tmp_path, "w.csv", "t,a,b\n0,1,2\n1,3,4\n2,5,\n")
    long = write(tmp_path, "l.csv", "t;variable;value\n0;a;1\n0;b;2\n1;b;4\n1;a;3\n2;a;5\n")
    one, other = read(wide), read(long)
    assert one.channels == other.channels
    assert np.array_equal(one.values, other.values, equal_nan=True)


def test_future_rows_of_controls_alone_are_not_steps(tmp_path):
    path = write(tmp_path, "t.csv", "t,y,price\n0,1,5\n1,2,6\n2,,7\n3,,8\n")
    data = read(path, controls=["price"])
    assert data.lengths.tolist() == [2] and data.controls.shape == (4, 1, 1)


def test_pandas_frame_is_the_table(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = write(
        tmp_path, "t.csv", "unique_id,ds,y\na,2026-01-01,1\na,2026-01-02,\nb,2026-01-01,3\n"
    )
    frame = pandas.read_csv(path, parse_dates=["ds"])
    one, other = read(path), series_of_frame(frame)
    assert one.ids == other.ids
    assert np.array_equal(one.values, other.values, equal_nan=True)
    assert (one.times[0] == other.times[0]).all()


def test_arrays(tmp_path):
    values = np.arange(24, dtype="int16").reshape(2, 4, 3)
    data = read(write(tmp_path, "a.npy", npy(values)))
    assert np.array_equal(data.values, values.transpose(1, 0, 2))
    np.savez(tmp_path / "b.npz", values=values.astype(float), lengths=[4, 2], ids=["u", "v"])
    data = read(tmp_path / "b.npz")
    assert data.lengths.tolist() == [4, 2] and data.ids == ("u", "v")
    np.savez(tmp_path / "c.npz", values)
    assert read(tmp_path / "c.npz").num_series == 2
    fortran = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    assert np.array_equal(read(write(tmp_path, "f.npy", npy(fortran))).values[:, 0], fortran)


def test_notes(tmp_path):
    path = write(tmp_path, "n.json", json.dumps({"train": [[[60, 64], []], [[21]]], "test": []}))
    data = read(path, part="train")
    assert data.event_shape == (88,) and data.lengths.tolist() == [2, 1]
    assert [data.channels[i] for i in data.values[0, 0].nonzero().flatten()] == ["C4", "E4"]
    assert read(write(tmp_path, "m.json", "[[[0], [127]]]")).event_shape == (128,)


def test_images_in_folders(tmp_path):
    for name, count in (("b", 2), ("a", 11)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("L", (5, 4), 10 * i).save(tmp_path / name / f"frame{i}.png")
    (tmp_path / "a" / "._frame0.png").write_bytes(b"left behind")
    data = read(tmp_path)
    assert data.ids == ("a", "b") and data.lengths.tolist() == [11, 2]
    assert data.event_shape == (1, 4, 5)
    assert data.values[10, 0, 0, 0, 0].item() == pytest.approx(100 / 255), "10 comes after 9"
    assert read(tmp_path / "b").ids == ("b",)


class Code:
    def __reduce__(self):
        return (print, ("code was run",))


TERABYTE = npy_header((2**37,))
BAD_FILES = {
    "missing.csv": (None, "does not exist"),
    "data.xls": ("x", "a name that ends in"),
    "noending": ("x", "a name that ends in"),
    "empty.csv": ("", "no line below"),
    "header_only.csv": ("a,b\n", "no line below"),
    "no_header.csv": ("1,2\n3,4\n", "which holds numbers"),
    "twice.csv": ("a,a\n1,2\n", "must name every column once"),
    "word.csv": ("t,a\n0,1\n1,two\n", "'two' in column a, line 3"),
    "short_row.csv": ("a,b\n1,2\n3\n", "2 columns and 1 cells in line 3"),
    "infinite.csv": ("a\n1\ninf\n", "infinity"),
    "bad_time.csv": ("date,a\n2026-01-01,1\nsoon,2\n", "'soon' as the time in line 3"),
    "no_time.csv": ("t,a\n0,1\nnan,2\n", "a time that is missing"),
    "time_twice.csv": ("t,a\n0,1\n0,2\n", "twice"),
    "only_times.csv": ("t\n0\n1\n", "no column of values"),
    "long_no_value.csv": ("t,channel\n0,a\n", "none of their values"),
    "long_more.csv": ("t,channel,value,c\n0,a,1,2\n", "columns besides: c"),
    "long_twice.csv": ("t,channel,value\n0,a,1\n0,a,2\n", "two values for"),
    "long_no_time.csv": ("channel,value\na,1\n", "no column of times"),
    "latin.csv": ("t,a\n0,\xe9\n".encode("latin-1"), "no text in UTF-8"),
    "quotes.csv": ('a,b\n"1,2\n', "no table of text"),
    "binary.csv": (b"a,b\n\x00\x00,1\n", "no number|no table of text"),
    "text.npy": ("hello", "damaged header"),
    "cut.npy": (npy(np.zeros((10, 3)))[:-50], "cut short"),
    "terabyte.npy": (TERABYTE, "too large"),
    "two_to_70.npy": (npy_header((2**70,)), "too large"),
    "negative.npy": (npy_header((-1,)), "damaged header"),
    "unclosed.npy": (npy_header((3,)).replace(b"}", b" "), "damaged header"),
    "objects.npy": (npy(np.array([1, "a"], dtype=object)), "may hold code"),
    "complex.npy": (npy(np.zeros((3, 2), complex)), "real numbers are allowed"),
    "words.npy": (npy(np.array(["a", "b"])), "real numbers are allowed"),
    "infinite.npy": (npy(np.array([1.0, np.inf])), "must be finite"),
    "nothing.npy": (npy(np.zeros((0, 2))), "nothing in it"),
    "text.npz": ("hello", "no readable .npz"),
    "unknown.npz": (npz(values=npy(np.zeros(3)), more=npy(np.zeros(3))), "'values' is needed"),
    "terabyte.npz": (npz(values=TERABYTE), "too large"),
    "lengths.npz": (npz(values=npy(np.zeros((2, 3, 1))), lengths=npy(np.array([9, 9]))), "lengths"),
    "pickle.npz": (pickle.dumps(Code()), "no readable .npz"),
    "broken.json": ("[[[60]", "no JSON"),
    "deep.json": ("[" * 100_000, "no JSON"),
    "numbers.json": ("[1, 2]", "no list of steps"),
    "notes.json": ("[[[60, 128]]]", "no list of MIDI notes"),
    "floats.json": ("[[[60.5]]]", "no list of MIDI notes"),
    "object.json": ('{"train": []}', "holds the parts train"),
    "empty.json": ("[]", "no list of pieces"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_with_one_sentence(name, tmp_path):
    content, words = BAD_FILES[name]
    path = tmp_path / name if content is None else write(tmp_path, name, content)
    refused(path, words)


BAD_FOLDERS = {
    "empty": ({}, "neither images"),
    "sizes": ({"a.png": png((4, 4)), "b.png": png((5, 4))}, "must be of one size"),
    "text": ({"a.png": b"hello"}, "no readable image"),
    "another_program's": ({"a.png": b"%!PS-Adobe-3.0 EPSF-3.0\n"}, "no readable image"),
    "cut": ({"a.png": png((60, 60), "RGB")[:-40]}, "damaged image"),
    "bomb": ({"a.png": bomb(30_000)}, "too large"),
    "smaller_bomb": ({"a.png": bomb(20_000)}, "too large"),
    "clear": ({"a.png": png((4, 4), "RGBA")}, "transparent ground"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_are_refused_with_one_sentence(name, tmp_path):
    files, words = BAD_FOLDERS[name]
    folder = tmp_path / name
    folder.mkdir()
    for file, content in files.items():
        write(folder, file, content)
    refused(folder, words)


def test_an_encrypted_or_oddly_packed_member_is_refused(tmp_path):
    content = bytearray(npz(values=npy(np.zeros(3))))
    for place in (content.find(b"PK\x03\x04") + 6, content.find(b"PK\x01\x02") + 8):
        content[place] |= 1
    with pytest.raises(DataFileError, match="no readable"):
        read(write(tmp_path, "locked.npz", bytes(content)))
    content = bytearray(npz(values=npy(np.zeros(3))))
    for place in (content.find(b"PK\x03\x04") + 8, content.find(b"PK\x01\x02") + 10):
        content[place] = 77
    with pytest.raises(DataFileError, match="no readable"):
        read(write(tmp_path, "odd.npz", bytes(content)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have names")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "data.npy")
    refused(tmp_path / "data.npy", "neither a file nor a folder")


def test_a_folder_in_the_place_of_a_file_and_an_option_of_another_format(tmp_path):
    (tmp_path / "data.csv").mkdir()
    with pytest.raises(DataFileError, match="neither images"):
        read(tmp_path / "data.csv")
    with pytest.raises(ValueError, match="option 'part' given"):
        read(write(tmp_path, "t.csv", "a\n1\n"), part="train")
    with pytest.raises(DataFileError, match="no column 'when'"):
        read(write(tmp_path, "t.csv", "a\n1\n"), time="when")


def table(folder, times, name="t.csv"):
    """A table of one channel at these times."""
    rows = "".join(f"{time},{i}\n" for i, time in enumerate(times))
    return read(write(folder, name, f"time,a\n{rows}"))


EVEN_CLOCKS = {
    "tenths": ["0.0", "0.1", "0.2", "0.30000000000000004", "0.4", "0.5"],
    "thousand tenths": [f"{0.1 * i:.1f}" for i in range(1000)],
    "milliseconds": [f"2026-01-01 00:00:00.{i:03d}" for i in range(0, 1000, 250)],
    "months": ["2026-01", "2026-02", "2026-03"],
    "ends of months": ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"],
    "ends of quarters": ["2025-03-31", "2025-06-30", "2025-09-30", "2025-12-31"],
    "quarters": ["2025Q3", "2025Q4", "2026Q1"],
    "years": ["2023-07-01", "2024-07-01", "2025-07-01"],
    "eight digits": ["20260130", "20260131", "20260201"],
    "over the summer time": [
        "2026-03-29T01:00+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-29T04:00+02:00",
    ],
}


@pytest.mark.parametrize("name", EVEN_CLOCKS)
def test_even_clocks_are_seen_to_be_even(name, tmp_path):
    data = table(tmp_path, EVEN_CLOCKS[name])
    assert data.num_steps == len(EVEN_CLOCKS[name]) and len(data.notes) == 1


@pytest.mark.parametrize(
    ("times", "missing"),
    [
        (["2026-01", "2026-02", "2026-04"], "2026-03-01"),
        (["2025-11-30", "2025-12-31", "2026-02-28"], "2026-01-31"),
        (["20260130", "20260131", "20260202"], "2026-02-01"),
        (["0.1", "0.2", "0.4"], 0.3),
    ],
)
def test_a_time_that_a_clock_lacks_is_a_gap(times, missing, tmp_path):
    data = table(tmp_path, times)
    assert data.values[:, 0, 0].isnan().tolist() == [False, False, True, False]
    if isinstance(missing, str):
        assert str(data.times[0][2])[:10] == missing
    else:
        assert data.times[0][2] == pytest.approx(missing)
    assert "1 of 4 steps have no row" in data.notes[1]


def test_what_keeps_no_clock_is_taken_step_by_step(tmp_path):
    data = table(tmp_path, ["0", "1", "2.3", "3"])
    assert data.num_steps == 4 and "not even" in data.notes[1]


@pytest.mark.parametrize(
    ("times", "ahead"),
    [
        (["2025-11-30", "2025-12-31", "2026-01-31"], ["2026-02-28", "2026-03-31"]),
        (["2025-01-15", "2025-02-15"], ["2025-03-15", "2025-04-15"]),
        (["2025-03-31", "2025-06-30"], ["2025-09-30", "2025-12-31"]),
        (["2026-02-27", "2026-02-28"], ["2026-03-01", "2026-03-02"]),
    ],
)
def test_a_clock_goes_on_as_it_was(times, ahead, tmp_path):
    data = table(tmp_path, times)
    assert [str(time)[:10] for time in data.times_of(0, len(times), 2)] == ahead


def test_lines_are_those_of_the_file(tmp_path):
    for text in ("t,a\n\n0,1\n\n1,two\n", "t,channel,value\n\n0,a,1\n\n1,a,two\n"):
        with pytest.raises(DataFileError, match="line 5"):
            read(write(tmp_path, "t.csv", text))


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("id,a\n,1\n", {}, "no series id in column id, line 2"),
        ("t,a\n0,1\n", {"controls": ["t"]}, "time and control are to be it"),
        ("t,a\n0,1\n", {"controls": ["a", "a"]}, "control and control are to be it"),
        ("t,a\n0,1\n", {"time": "a", "id": "a"}, "id and time are to be it"),
        ("date,a\n2026-01-01T00:00Z,1\n2026-01-02T00:00,2\n", {}, "all with a time zone or none"),
        ("t,p,channel,value\n0,1,a,1\n0,2,b,1\n", {"controls": ["p"]}, "other controls for 0"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(text, options, words, tmp_path):
    with pytest.raises(DataFileError, match=words):
        read(write(tmp_path, "t.csv", text), **options)
