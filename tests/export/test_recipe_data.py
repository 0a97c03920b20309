"""A recipe's files: CSV and JSON lines in pieces, faults with file and line, events, histories, splits, negatives, the check."""

import gzip
import json

import numpy as np
import pytest

import shops
from dien.data import checks, events, recipe, tables
from dien.data.columns import Ids
from dien.data.sequences import Sampler, Sequences, parts_of
from dien.training.networks import config_of

CLICKS = """name = "shop"
[data]
files = "clicks.csv"
user = "user"
time = "time"
"""


def read(folder, text, rows=None, header=("user", "item", "time"), state=None, frozen=False):
    """The data set of a recipe, its files in `folder`."""
    if rows is not None:
        shops.write_csv(folder / "clicks.csv", header, rows)
    return events.read(recipe.parse(str(folder / "r.toml"), text), state, frozen)


def sequences_of(dataset):
    return Sequences(dataset, config_of(dataset))


def whole(path, names, **options):
    """All pieces of a file: lines, columns."""
    pieces = list(tables.pieces(str(path), names, size=3, **options))
    return [int(line) for piece in pieces for line in piece.lines], \
        {name: [value for piece in pieces for value in piece.columns[name]] for name in names}


TEXT = '\ufeffa,b,c\n1,"x, y",2\n\n3,"two\nlines",4\n5,é😀,6\n7,,8\n9,z,10\n'


@pytest.mark.parametrize("coding", ["", ".gz", ".zst"])
def test_csv_in_pieces(tmp_path, coding):
    data = TEXT.encode()
    if coding == ".gz":
        data = gzip.compress(data)
    elif coding == ".zst":
        data = pytest.importorskip("zstandard").compress(data)
    (tmp_path / f"t.csv{coding}").write_bytes(data)
    lines, columns = whole(tmp_path / f"t.csv{coding}", ["b", "a"])
    assert columns == {"b": ["x, y", "two\nlines", "é😀", "", "z"], "a": ["1", "3", "5", "7", "9"]}
    assert lines == [2, 5, 6, 7, 8]  # the last line of each row


def test_tabs_and_separators(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n")
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    assert whole(tmp_path / "t.tsv", ["b"])[1] == whole(tmp_path / "t.csv", ["b"], separator=";")[1] == {"b": ["2"]}


def test_json_lines(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n\n{"b": ["x"], "a": 9007199254740993}\n')
    assert whole(tmp_path / "t.jsonl", ["a", "b"]) == ([1, 3], {"a": [1, 9007199254740993], "b": [None, ["x"]]})


@pytest.mark.parametrize("name, data, place", [
    ("t.csv", b"a,b\n1\n", "t.csv:2: 1 cells"), ("t.csv", b"aa,b\n1,2\n", "t.csv:1: there is no column 'a'; is 'aa' meant?"),
    ("t.csv", b"", "t.csv:1: there is no column"), ("t.csv", b"a\n\xff\n", "t.csv: not UTF-8"),
    ("t.csv", b'a\n"' + b"x" * 140_000 + b'"\n', "t.csv:"),
    ("t.csv.gz", gzip.compress(b"a\n" + b"1\n" * 99)[:-12], "damaged or cut"), ("t.csv.gz", b"a\n1\n", "damaged or cut"),
    ("t.csv.zst", b"a\n1\n", "damaged or cut"), ("t.jsonl", b'{"a": 1}\n{"a":\n', "t.jsonl:2: "),
    ("t.jsonl", b"[1]\n", "t.jsonl:1: not a JSON object"), ("t.jsonl", b'{"b": 1}\n', "there is no column 'a'"),
    ("t.dat", b"a\n", "give `format`"), ("t.parquet", b"PAR1", "pyarrow")], ids=range(13))
def test_a_faulty_file_is_named_with_its_line(tmp_path, name, data, place):
    if name.endswith(".zst"):
        pytest.importorskip("zstandard")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="t\\.") as caught:
        whole(tmp_path / name, ["a"])
    assert place in str(caught.value)


@pytest.mark.parametrize("more, rows, words", [
    ("", [["u", "", 1]], "clicks.csv:2: the item is missing"), ("", [["u", "a", "noon"]], "clicks.csv:2: 'noon' is neither"),
    ("", [["u", "a", 1], ["u", "a", ""]], "clicks.csv:3: the time is missing"),
    ("", [["u", "a", 1], ["u", "a", "inf"]], "clicks.csv:3: 'inf' is not a finite number"),
    ("[item]\nkind = \"integer\"\n", [["u", "7", 1], ["u", "7.5", 2]], "clicks.csv:3: '7.5' is not an integer"),
    ("[item]\nkind = \"integer\"\n", [["u", 2**64, 1]], "beyond 64 bits"),
    ("[user]\nage = {column = \"user\", kind = \"dense\"}\n", [["4", "a", 1], ["old", "a", 2]], "clicks.csv:3: 'old' is not"),
    ("", [], "no events")])
def test_a_faulty_row_is_named_with_its_line(tmp_path, more, rows, words):
    with pytest.raises(ValueError) as caught:
        read(tmp_path, CLICKS + more, rows)
    assert words in str(caught.value)


def test_bad_rows_can_be_left_out(tmp_path):
    dataset = read(tmp_path, CLICKS + "bad_rows = \"skip\"\n", [["u", "a", 1], ["u", "", 2], ["", "b", 3], ["u", "b", 4]])
    assert len(dataset.events) == 2
    assert {fault: count for fault, (count, _) in dataset.skipped.items()} == {"without item": 1, "without user": 1}


def test_events_are_by_user_and_time(tmp_path):
    """Many pieces and partitions; ties keep the file's order."""
    random = np.random.default_rng(0)
    rows = [[f"u{random.integers(40)}", f"i{random.integers(9)}", int(random.integers(50))] for _ in range(3000)]
    dataset = read(tmp_path, CLICKS, rows)
    made, names = dataset.events, dataset.values["item"].ids.ids
    line = made.line % tables.LINES_MAX
    assert sorted(line.tolist()) == list(range(2, 3002)) and len(made.offsets) == 41
    for begin, end in zip(made.offsets, made.offsets[1:]):
        mine = [rows[at - 2] for at in line[begin:end]]
        assert len({row[0] for row in mine}) == 1 and len(mine) == sum(row[0] == mine[0][0] for row in rows)
        assert [row[2] for row in mine] == sorted(row[2] for row in mine)
        assert [names[row - 1] for row in made.item[begin:end]] == [row[1] for row in mine]
        ties = [(row[2], at) for row, at in zip(mine, line[begin:end])]
        assert ties == sorted(ties)


@pytest.mark.parametrize("column, values, seconds", [
    ("time", ["2026-11-28", "2026-11-28T01:00:00+01:00", "2026-11-28 00:00:01"], [0, 0, 1]), ("time", ["5", "7.5", "9"], None)])
def test_times(tmp_path, column, values, seconds):
    made = read(tmp_path, CLICKS, [["u", "a", value] for value in values]).events.time
    assert (made - made[0]).tolist() == (seconds if seconds else [0, 2.5, 4])


def test_a_time_of_several_columns(tmp_path):
    text = CLICKS.replace('"time"\n', '["y", "m", "d"]\n')
    made = read(tmp_path, text, [["u", "a", 2008, 2, 29], ["u", "a", 2008, 3, 1]], ["user", "item", "y", "m", "d"]).events.time
    assert made.tolist() == [1_204_243_200, 1_204_329_600]


def test_histories_are_earlier_behaviours_only(tmp_path):
    rows = [["u", item, time] for time, item in enumerate("abcde")] + [["v", "a", 9], ["v", "b", 10]]
    dataset = read(tmp_path, CLICKS + "[interests]\nclicks = {max_length = 3}\n", rows)
    made, names = sequences_of(dataset), ["?", *dataset.values["item"].ids.ids]
    seen = {}
    for place in made.targets():
        history = made.histories(np.array([place]))[0]
        user, target = made.events.user[place], names[made.events.item[place]]
        seen[user, target] = "".join(names[row] for row in made.events.item[history.places[0][:history.length[0]]])
    assert sorted(seen.values()) == ["a", "a", "ab", "abc", "bcd"]


def test_labels_of_one_moment_do_not_see_each_other(tmp_path):
    text = CLICKS + "form = \"impressions\"\nlabel = \"click\"\n"
    rows = [["u", "a", 1, 1], ["u", "b", 1, 0], ["u", "c", 2, 1], ["u", "d", 2, 1], ["u", "e", 3, 0]]
    made = sequences_of(read(tmp_path, text, rows, ["user", "item", "time", "click"]))
    history = made.histories(np.arange(5))[0]
    assert history.length.tolist() == [0, 0, 1, 1, 3]
    assert made.events.item[history.places[4]].tolist() == [1, 3, 4]  # the clicked ones


def test_parts_are_by_time(tmp_path):
    made = sequences_of(read(tmp_path, CLICKS, shops_rows()))
    parts = parts_of(made, made.targets())
    time = {name: made.events.time[places] for name, places in parts.items()}
    assert time["train"].max() < time["validation"].min() <= time["validation"].max() < time["test"].min()
    assert abs(len(parts["test"]) / sum(map(len, parts.values())) - 0.1) < 0.02


def shops_rows(**options):
    return [[f"u{user}", f"i{item}", time] for user, item, time in shops.clicks(**options)]


def test_negatives():
    sampler, random = Sampler(np.array([0, 6, 3, 1, 0])), np.random.default_rng(0)
    positive = np.full(30_000, 2)
    for kind, share in (("uniform", [1, 0, 1, 1]), ("popularity", [6, 0, 1, 0]), ("mixed", [None])):
        drawn = sampler.draw(kind, positive, 2, random)
        assert drawn.shape == (30_000, 2) and drawn.min() >= 1 and not (drawn == 2).any()
        if kind != "mixed":
            measured = np.bincount(drawn.ravel(), minlength=5)[1:] / drawn.size
            assert np.allclose(measured, np.array(share) / sum(share), atol=0.01), kind
    batch = np.array([1, 1, 3, 3, 2])
    drawn = sampler.draw("in-batch", batch, 3, random)
    assert set(drawn.ravel()) <= {1, 2, 3} and not (drawn == batch[:, None]).any()
    chance = sampler.log_chance("popularity", np.array([1, 2]), 8)
    assert abs(chance[0] - chance[1] - np.log(2)) < 1e-9
    assert np.allclose(sampler.log_chance("uniform", np.array([1, 4]), 8), 0)
    lone = Sampler(np.array([0, 5, 0]))  # all clicks are of one item: no endless search for another
    assert lone.draw("popularity", np.array([1]), 1, random).tolist() == [[1]]


@pytest.mark.parametrize("kind, ids", [("string", ["b", "a", "漢" * 80]), ("integer", [2**53 + 1, 5]),
                                       ("integer", [2**64 - 1, 3])])
def test_ids_keep_their_rows(kind, ids):
    def fault(place, words):
        return ValueError(f"{place}: {words}")

    first = Ids(kind)
    assert first.encode(ids, fault).tolist() == list(range(1, len(ids) + 1))
    later = Ids.unpacked(first.packed())
    new = {"string": "new", "integer": 77}[kind]
    assert later.encode([new, *map(str, ids), "" if kind == "string" else None], fault).tolist() == [
        len(ids) + 1, *range(1, len(ids) + 1), 0]
    kept = later.drop_rare(np.zeros(len(ids) + 2), 5)
    assert later.ids == ids and kept.tolist() == [*range(len(ids) + 1), 0]  # the old ones stay whatever their number
    later.frozen = True
    assert later.encode(["other" if kind == "string" else 99], fault).tolist() == [0]


def test_rare_items_are_unknown_and_their_attributes_go(tmp_path):
    rows = [["u", "a", 1, "x"], ["u", "rare", 2, "y"], ["u", "b", 3, "z"], ["u", "a", 4, "x"], ["u", "b", 5, "w"]]
    dataset = read(tmp_path, CLICKS + "[item]\nmin_count = 2\n[item.attributes]\nkind = {}\n", rows,
                   ["user", "item", "time", "kind"])
    assert dataset.values["item"].ids.ids == ["a", "b"] and dataset.events.item.tolist() == [1, 0, 2, 1, 2]
    kinds = dataset.values["kind"].ids.ids
    assert [kinds[row - 1] for row in dataset.attribute("kind")[1:]] == ["x", "w"]  # an item's last row counts


def test_dense_bands_and_sets(tmp_path):
    rows = [["u", f"i{step}", step, 10.0 * (step + 1) if step else "", "x|y" if step % 2 else ["", "y"][step > 0]]
            for step in range(6)]
    dataset = read(tmp_path, CLICKS + "[item.attributes]\nprice = {kind = \"dense\"}\n"
                   "band = {column = \"price\", kind = \"bands\", bands = 2}\ntags = {kind = \"multi\", pool = \"sum\"}\n", rows,
                   ["user", "item", "time", "price", "tags"])
    price = dataset.attribute("price")
    assert price[0] == price[1] == 0 and abs(np.square(price[2:]).mean() - 1) < 1e-5
    assert dataset.attribute("band").tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert dataset.values["tags"].ids.ids == ["x", "y"]
    assert dataset.attribute("tags").tolist() == [[0, 0], [0, 0], [1, 1], [0, 1], [1, 1], [0, 1], [1, 1]]


def found(dataset):
    made = sequences_of(dataset)
    return {finding.name: finding for finding in checks.findings(made, parts_of(made, made.targets()))}


def test_the_check_counts_and_names_the_first_line(tmp_path):
    rows = [["u", "a", 1, 0], ["u", "b", 2, 0], ["u", "b", 2, 0], ["u", "b", 9, 0], ["one", "a", 3, 0], ["v", "c", 8, 0],
            ["v", "a", 5, 0], *([f"w{i}", item, 10 + i, 0] for i in range(5) for item in "ab")]
    result = found(read(tmp_path, CLICKS, rows, ["user", "item", "time", "mood"]))
    assert result["unknown columns"].words == "not in the recipe: mood"
    late = result["times out of order"]
    assert (late.rows, late.first.rsplit(":", 1)[1]) == (2, "6")
    assert (result["users of one row"].rows, result["users of one row"].first) == (1, f"{tmp_path}/clicks.csv:6")
    leak = result["leak: the target in its own history"]
    assert leak.is_warning and (leak.rows, leak.first) == (1, f"{tmp_path}/clicks.csv:4")
    before = result["the item of the row before"]
    assert (before.rows, before.first) == (1, f"{tmp_path}/clicks.csv:5")


def test_the_check_of_impressions_and_items(tmp_path):
    shops.write_csv(tmp_path / "items.csv", ["item", "kind"], [["a", "x"], ["b", ""]])
    text = CLICKS + "form = \"impressions\"\nlabel = \"click\"\n[items]\nfiles = \"items.csv\"\n[item.attributes]\nkind = {}\n"
    rows = [["u", "a", 1, 1], ["u", "a", 1, 0], ["u", "c", 2, 1], ["u", "a", 3, 1],
            *([f"w{i}", item, 10 + i, 1] for i in range(9) for item in "ab")]
    result = found(read(tmp_path, text, rows, ["user", "item", "time", "click"]))
    assert (result["leak: an impression written twice"].rows, result["leak: an impression written twice"].first) == (
        1, f"{tmp_path}/clicks.csv:3")
    assert result["the target in its own history"].first.endswith(":5")
    assert result["items without a description"].rows == 1 and result["items without a description"].first.endswith(":4")


def test_the_check_as_a_command(tmp_path, dien):
    shops.write_csv(tmp_path / "clicks.csv", ["user", "item", "time"], shops_rows())
    page = shops.recipe(tmp_path, CLICKS)
    run = dien("check", page)
    assert run.returncode == 0 and "examples to train" in run.stdout and "note: " in run.stdout, run.stderr
    again = [line.split(",") for line in (tmp_path / "clicks.csv").read_text().splitlines()]
    shops.write_csv(tmp_path / "twice.csv", again[0], [row for row in again[1:] for _ in range(2)])
    run = dien("check", page, "--data", tmp_path / "twice.csv")
    assert run.returncode == 1 and f"warning: leak: the target in its own history: {len(again) - 1}, first at " in run.stdout
    (tmp_path / "bad.csv").write_text("user,itm,time\nu,a,1\n")
    run = dien("check", page, "--data", tmp_path / "bad.csv")
    assert run.returncode == 1 and "bad.csv:1: there is no column 'item'; is 'itm' meant?" in run.stderr


def test_json_refuses_what_is_no_id(tmp_path):
    for value in (True, 1.5, [1], {"a": 1}):
        (tmp_path / "c.jsonl").write_text("\n".join(json.dumps({"user": "u", "item": each, "time": 1}) for each in (1, 1, value)))
        with pytest.raises(ValueError, match=r"c.jsonl:3: "):
            read(tmp_path, CLICKS.replace("clicks.csv", "c.jsonl") + "[item]\nkind = \"integer\"\n")
