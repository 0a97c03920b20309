"""A recipe's page: its keys are documented, and each fault names the file, the line and the key."""

import re

import pytest

from dien.data import recipe
from support.dien_command import PACKAGE, run_dien

GOOD = """name = "shop"
[data]
files = "clicks.csv"
user = "user"
"""


def test_every_key_is_documented():
    page = (PACKAGE / "RECIPES.md").read_text()
    known = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, re.M))
    documented = {name for names in known for name in re.findall(r"\w+", names)}
    keys = {key for table in recipe.KEYS.values() for key in table} | set(recipe.FIELD) | set(recipe.INTEREST)
    assert keys <= documented, keys - documented
    assert documented <= keys, documented - keys
    for table in (*recipe.KEYS, *recipe.GROUPS, "interests", "item.attributes"):
        assert not table or f"`[{table}]`" in page, table


def test_the_documented_defaults_are_the_codes():
    page = (PACKAGE / "RECIPES.md").read_text()
    for table in ("network", "training", "negatives", "split"):
        part = re.search(rf"^### `\[{table}\]`.*?(?=^##)", page, re.M | re.S)[0]
        for names, defaults in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (.*?) \|", part, re.M):
            for name, default in zip(re.findall(r"\w+", names), re.split(r", (?![^\[]*\])", defaults)):
                value = recipe.KEYS[table][name].default
                if name != "units":
                    written = default.strip("`").replace('"', "")
                    assert written == (str(value).lower() if isinstance(value, bool) else str(value)) or \
                        float(written) == value, (table, name)


def test_the_demos_recipe_is_read():
    page = recipe.read(str(PACKAGE / "eshop.toml"))
    assert [each.name for each in page.group("attribute")] == ["category", "colour", "location", "page", "price_band"]
    assert page.files == [str(PACKAGE / "e-shop-clothing-2008.csv.gz")]
    assert len((PACKAGE / "eshop.toml").read_text().splitlines()) <= 35


@pytest.mark.parametrize("text, place, words", [
    ("name = 3\n", "1: name", "3 is not 1 to 64 letters"),
    ("nam = \"x\"\n" + GOOD, "1: nam", "is name meant?"),
    (GOOD + "usr = \"u\"\n", "5: data.usr", "is user meant?"),
    ("[data]\nfiles = \"a\"\n", "1: name", "is missing"),
    (GOOD + "[training]\nrate = \"fast\"\n", "6: training.rate", "a number from"),
    (GOOD + "[training]\nbatch = true\n", "6: training.batch", "a whole number"),
    (GOOD + "[training]\nrate = nan\n", "6: training.rate", "a number from"),
    (GOOD + "[network]\nhidden = []\n", "6: network.hidden", "a list of whole numbers"),
    (GOOD + "[network]\nunits = 8\n", "6: network.units", "auxiliary"),
    (GOOD + "[network]\ncell = \"lstm\"\n", "6: network.cell", "augru-and"),
    (GOOD + "[item.attributes]\ngenre = {kind = \"many\"}\n", "6: item.attributes.genre.kind", "multi"),
    (GOOD + "[item.attributes]\ngenre = {kind = \"dense\", split = \"|\"}\n", "6: item.attributes.genre.split", "kind multi"),
    (GOOD + "[item.attributes.genre]\nkind = \"multi\"\nsplit = \"ab\"\n", "7: item.attributes.genre.split", "one character"),
    (GOOD + "[user]\n\"a b\" = {}\n", "6: user.a b", "letters"),
    (GOOD + "[user]\nitem = {}\n", "1: item", "two fields"),
    (GOOD + "[user]\nage = {column = [\"a\", \"b\"]}\n", "6: user.age.column", "dense"),
    (GOOD + "[candidate]\nposition = {}\n", "5: candidate", "sampled"),
    (GOOD + "form = \"impressions\"\n", "2: data.label", "needs"),
    (GOOD + "label = \"l\"\n", "5: data.label", "has no"),
    (GOOD + "form = \"impressions\"\nlabel = \"l\"\n[negatives]\ncount = 3\n", "7: negatives", "labels"),
    (GOOD + "targets = \"buy\"\n", "2: data.event", "is missing"),
    (GOOD + "[interests]\nviews = {events = [\"view\"]}\n", "2: data.event", "is missing"),
    (GOOD + "[split]\nvalidation = 0.5\ntest = 0.5\n", "7: split.test", "nothing to train on"),
    (GOOD + "[items]\nfiles = \"items.csv\"\n", "5: items", "item.attributes"),
    ("name = \"x\"\n[data]\nfiles = \"a\"\n", "2: data.user", "session"),
    (GOOD + "time = [\n", "5:", ""), ("name = \"shop\"\nname = \"shop\"\n", "2:", ""), (GOOD + "x\n", "5:2", ""),
])
def test_a_fault_names_file_line_and_key(text, place, words):
    with pytest.raises(ValueError, match=re.escape(f"page.toml:{place}")) as caught:
        recipe.parse("page.toml", text)
    assert words in str(caught.value)


def test_flags_of_the_demo_are_refused_beside_a_recipe(tmp_path):
    (tmp_path / "r.toml").write_text(GOOD)
    run = run_dien("train", tmp_path / "r.toml", "--checkpoint", tmp_path / "a.pt", "--alpha", "0.5")
    assert run.returncode == 2 and "--alpha is an option of the demo" in run.stderr
    run = run_dien("train", "--checkpoint", tmp_path / "a.pt")
    assert run.returncode == 2 and "give a recipe" in run.stderr
