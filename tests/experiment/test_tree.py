import math
import textwrap

import pytest

from harness.errors import ConfigError
from harness.experiment import tree as module
from harness.experiment.tree import Tree, dotted


def parse(text):
    return Tree("f.yaml", textwrap.dedent(text))


def refused(text):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2e-4", 0.0002),
        ("1E5", 100000.0),
        ("0.1", 0.1),
        ("3", 3),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("none", "none"),
        ("1:30", "1:30"),
        ("'1'", "1"),
        (".inf", math.inf),
        ("007", 7),
        ("0o17", 15),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = parse(f"a: {text}").values["a"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number_here_and_refused_where_it_is_used():
    assert math.isnan(parse("a: .nan").values["a"])


def test_aliases_and_merges_are_plain_values():
    assert parse("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}").values == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }


def test_an_anchor_may_be_used_twice_without_a_warning():
    assert parse("a: &x 1\nb: &x 2\nc: *x").values == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null"])
def test_an_empty_file_says_so(text):
    assert refused(text) == (
        "f.yaml: it is empty; an experiment file is a mapping of keys to values"
    )


@pytest.mark.parametrize("text", ["- a\n- b", "just text", "3", "[]", "false"])
def test_a_file_that_is_no_mapping_is_refused(text):
    assert refused(text) == "f.yaml: an experiment file is a mapping of keys to values"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", 'f.yaml:3: found duplicate key "a"'),
        ("a:\n  b: 1\n  b: 1", 'f.yaml:3: found duplicate key "b"'),
        ("a: 1\nb:\n\tc: 2", "f.yaml:3: not valid YAML: found character '\\t' that cannot start"),
        ("a: [1, 2\nb: 3", "f.yaml:2: not valid YAML"),
        ("a: 'open", "f.yaml:1: not valid YAML"),
        ("a: 1\n b: 2", "f.yaml:2: not valid YAML"),
        ("a: *nowhere", "f.yaml:1: not valid YAML: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2", "f.yaml:2: not valid YAML"),
        ("a: 1\nb: @x", "f.yaml:2: not valid YAML"),
        ("? {a: 1}\n: 2", "f.yaml:1: found unhashable key"),
        ("a: {<<: 3}", "f.yaml:1: expected a mapping"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(text, message):
    found = refused(text)
    assert found.startswith(message)
    assert "\n" not in found


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/name:os.system",
        "!!python/object/new:subprocess.Popen [[touch, pwned]]",
        "!!python/tuple [1]",
        "!mine 3",
        "!include other.yaml",
    ],
)
def test_an_unsafe_or_unknown_tag_is_refused_and_nothing_is_run(tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(f"a: 1\nb: {tag}")
    assert message.startswith("f.yaml:2: could not determine a constructor for the tag")
    assert message.endswith("only plain values are allowed here")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tag", ["bool", "int", "float", "timestamp", "binary é", "set", "omap"])
def test_a_tag_that_its_value_does_not_fit_is_refused(tag):
    assert refused(f"a: !!{tag} foo").startswith("f.yaml")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("2024-01-01", "date"), ("2024-01-01T00:00:00", "datetime"), ("!!set {x, y}", "set")],
)
def test_a_value_that_json_does_not_know_is_refused_with_what_to_do(text, kind):
    message = refused(f"z: 0\na:\n  - {text}")
    assert message.startswith("f.yaml:3: a[0]: ")
    assert f"is read as a {kind}; put it in quotes if it is text" in message


def test_binary_is_refused():
    assert "is read as a bytes" in refused("a: !!binary aGVsbG8=")


@pytest.mark.parametrize("key", ["[1, 2]", "null", "1.5", "2024-01-01", '"\\0"'])
def test_a_key_is_text(key):
    assert "is no text" in refused(f"a:\n  ? {key}\n  : 1")


@pytest.mark.parametrize("text", [r'"\0"', r'"a\0b"', r'"\ud800"'])
def test_text_that_no_file_could_hold_is_refused(text):
    assert refused(f"a: 1\nb: {text}").startswith("f.yaml:2: b: ")
    assert "is no text" in refused(f"b: {text}")


def test_a_bomb_of_aliases_is_refused_before_it_goes_off():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    assert "more than 100,000 values" in refused("\n".join(lines))


@pytest.mark.parametrize("width", [10, 100, 101])
def test_a_bomb_of_merges_is_refused_before_it_goes_off(width):
    lines = ["a0: &a0 {k: 1}"]
    lines += [
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * width)}], k{i}: 1}}" for i in range(1, 30)
    ]
    assert "merges or 10,000 keys in one mapping" in refused("\n".join(lines))


def test_a_bomb_of_keys_is_refused_before_it_goes_off():
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    assert "is no text" in refused("\n".join([*lines, "? *a29", ": 1"]))


def test_many_merges_and_keys_are_fine():
    text = "a: &a {" + ", ".join(f"k{i}: 1" for i in range(900)) + "}\n"
    values = parse(text + "b: {<<: [" + ", ".join(["*a"] * 10) + "], own: 2}").values
    assert len(values["b"]) == 901


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.yaml"
    with open(path, "wb") as file:
        file.truncate(500_001)
    with pytest.raises(ConfigError, match="more than 500,000 bytes"):
        Tree.read(path)


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {b: *x}", "a: &x [1, {c: [*x]}]"])
def test_what_contains_itself_is_refused(text):
    assert "100 levels" in refused(text)


@pytest.mark.parametrize("depth", [101, 250, 20_000])
def test_deep_nesting_is_refused(depth):
    assert refused("a: " + "[" * depth + "]" * depth).startswith("f.yaml: ")


def test_nesting_and_size_up_to_the_limit_are_fine():
    parse("a: " + "[" * 99 + "]" * 99)
    assert (
        len(parse("a: &a [" + "0, " * 300 + "0]\nb: [" + "*a, " * 300 + "*a]").values["b"]) == 301
    )


def test_a_huge_number_is_refused():
    assert refused("a: " + "9" * 5_000).startswith("f.yaml: not valid YAML")
    assert "more than 1024 bits" in refused("a: 0x" + "f" * 5_000)
    assert "more than 1024 bits" in refused("a: 0b" + "1" * 20_000)


LONG = {
    "list": "a: [" + "1, " * 10_001 + "1]",
    "rows": "a:\n" + "- 1\n" * 10_001,
    "row of rows": "a: " + "- " * 10_001 + "x",
    "keys": "".join(f"k{i}: 1\n" for i in range(10_001)),
    "empty items": "a: [" + "~," * 10_001 + "]",
    "anchors": "a: [" + ", ".join(f"&a{i} x" for i in range(5_001)) + "]",
    "aliases": "a: &a x\nb: [" + ", ".join(["*a"] * 5_001) + "]",
    "explicit keys": "a: {" + ", ".join(f"? a{i} : 1" for i in range(5_001)) + "}",
    "comments": "# no\n" * 10_001 + "a: 1",
    "brackets": "a: " + "[" * 10_001,
}


@pytest.mark.parametrize("kind", LONG)
def test_a_text_that_would_take_long_is_refused_before_it_is_read(kind, monkeypatch):
    def never(*_):
        raise AssertionError("it was given to the parser")

    monkeypatch.setattr(module, "_quiet_yaml", never)
    assert "more than 10,000 lines and values" in refused(LONG[kind])
    for text in ("x" * 500_001, '"' + "x " * 250_001 + '"', "\n" * 500_001):
        assert "more than 500,000 bytes" in refused(f"a: {text}")
    assert "300 brackets inside each other" in refused("a: " + "{a: " * 301 + "1" + "}" * 301)


def test_a_long_text_in_quotes_is_no_list():
    text = "a: '" + "one word after another " * 4_000 + "'\nb: [" + "1, " * 2_000 + "1]"
    assert len(parse(text).values["b"]) == 2_001


def test_a_file_is_read_as_utf_8_with_or_without_a_mark(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        path = tmp_path / "größe.yaml"
        path.write_text("name: größe", encoding=encoding)
        assert Tree.read(path).values == {"name": "größe"}
        assert Tree.read(path).name == str(path)


@pytest.mark.parametrize("content", ["name: größe".encode("latin-1"), b"\xff\xfe\x00", b"\x80abc"])
def test_a_file_that_is_not_utf_8_is_refused(tmp_path, content):
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*f\.yaml: it is not UTF-8 text"):
        Tree.read(path)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.yaml: No such file"):
        Tree.read(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        Tree.read(tmp_path)


def test_control_characters_are_refused_in_one_line():
    assert refused("a: \0") == (
        "f.yaml: not valid YAML: unacceptable character #x0000: special characters are not allowed"
    )


FILE = """\
# a comment
name: x
datasets:
  - {name: digits,
     imbalance_factor: 20}
training:
  lr: 0.1
  schedule:
    name: cosine
recipes:
  both: [mixup, {name: cutmix,
                 p: 0.5}]
"""


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ((), "f.yaml"),
        (("name",), "f.yaml:2: name"),
        (("datasets",), "f.yaml:3: datasets"),
        (("datasets", 0), "f.yaml:4: datasets[0]"),
        (("datasets", 0, "imbalance_factor"), "f.yaml:5: datasets[0].imbalance_factor"),
        (("training", "schedule", "name"), "f.yaml:9: training.schedule.name"),
        (("recipes", "both", 1, "p"), "f.yaml:12: recipes.both[1].p"),
        (("training", "absent"), "f.yaml:6: training.absent"),
        (("datasets", 7), "f.yaml:3: datasets[7]"),
        (("absent",), "f.yaml: absent"),
    ],
)
def test_a_place_is_named_with_file_line_and_path(place, where):
    assert Tree("f.yaml", FILE).where(place) == where


def test_dotted():
    assert dotted(("recipes", "both", 1, "alpha")) == "recipes.both[1].alpha"
    assert dotted((0, "a")) == "[0].a"
    assert dotted(()) == ""


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("name=y", ("name",), "y"),
        ("training.lr=0.05", ("training", "lr"), 0.05),
        ("training.lr=1e-3", ("training", "lr"), 0.001),
        (" training.lr = 3 ", ("training", "lr"), 3),
        ("training.schedule.name=no", ("training", "schedule", "name"), "no"),
        ("training.new.deep.key=[1, 2]", ("training", "new", "deep", "key"), [1, 2]),
        ("datasets.0.imbalance_factor=50", ("datasets", 0, "imbalance_factor"), 50),
        ("recipes.both.1.p=1", ("recipes", "both", 1, "p"), 1),
        ("recipes.both.0={name: mixup, p: 0}", ("recipes", "both", 0), {"name": "mixup", "p": 0}),
        ("name=", ("name",), None),
        ("name=a=b", ("name",), "a=b"),
        ("factors.2=[none]", ("factors", "2"), ["none"]),
    ],
)
def test_set_changes_one_value_read_as_yaml(assignment, path, value):
    tree = Tree("f.yaml", FILE)
    tree.set(assignment)
    at = tree.values
    for part in path:
        at = at[part]
    assert at == value
    assert type(at) is type(value)
    assert tree.where(path) == f"--set {dotted(path)}"
    assert tree.where((*path, "inner")) == f"--set {dotted((*path, 'inner'))}"


def test_set_leaves_the_rest_as_it_was():
    tree = Tree("f.yaml", FILE)
    before = Tree("f.yaml", FILE).values
    tree.set("training.lr=9")
    before["training"]["lr"] = 9
    assert tree.values == before
    assert tree.where(("name",)) == "f.yaml:2: name"


def test_a_key_that_only_set_made_is_not_sought_in_the_file():
    tree = Tree("f.yaml", FILE)
    tree.set("trainin.lr=9")
    assert tree.where(("trainin",)) == "--set trainin"
    assert tree.where(()) == "f.yaml"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("name", "--set name: expected KEY=VALUE, such as training.lr=0.05"),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("  =3", "expected KEY=VALUE"),
        ("datasets.1.x=3", "'datasets' has 1 items, numbered from 0, and no '1'"),
        ("datasets.-1.x=3", "and no '-1'"),
        ("datasets.x=3", "and no 'x'"),
        ("datasets.²=3", "and no '²'"),
        ("datasets." + "9" * 5000 + "=3", "and no '999"),
        ("name.x=3", "'name' is 'x' and has no keys; set 'name' itself"),
        ("training.lr.x=3", "'training.lr' is 0.1 and has no keys; set 'training.lr' itself"),
        ("name=[1", "--set name:1: not valid YAML"),
        ("name=!!python/name:os.system", "could not determine a constructor"),
        ("name=&a [*a]", "100 levels"),
        ("name=2024-01-01", "--set name: 2024-01-01 is read as a date"),
    ],
)
def test_set_refuses_what_leads_nowhere(assignment, message):
    with pytest.raises(ConfigError) as error:
        Tree("f.yaml", FILE).set(assignment)
    assert message in str(error.value)


def test_the_file_is_parsed_once_more_at_most_for_all_places(monkeypatch):
    tree = Tree("f.yaml", FILE)
    calls = []
    compose = module.YAML.compose
    monkeypatch.setattr(
        module.YAML, "compose", lambda self, text: calls.append(1) or compose(self, text)
    )
    for i in range(50):
        tree.where(("datasets", i))
    assert len(calls) == 1
