import posixpath
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.tracking.keys import check_class_names, class_keys, safe_name

MLFLOW_NAME = re.compile(r"^[/\w.\- ]*$")  # mlflow.utils.validation, the stricter Windows form


@given(st.text(max_size=400))
def test_every_name_becomes_a_key_that_mlflow_takes(name):
    key = f"test_precision/{safe_name(name)}"
    assert MLFLOW_NAME.match(key)
    assert posixpath.normpath(key) == key
    assert key.count("/") == 1
    assert 15 < len(key) <= 250


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("cat", "cat"),
        ("Großer Hund-2.b", "Großer Hund-2.b"),
        ("Кошка", "Кошка"),
        ("a/b", "a_b"),
        ("f1 (cat)", "f1 _cat_"),
        ('say "x"', "say _x_"),
        ("🐱", "u1F431"),
        ("..", "__"),
        ("", "_"),
        (" padded ", "padded"),
        ("e\u0301", "é"),
        ("line\nbreak", "line_break"),
    ],
)
def test_safe_names(name, key):
    assert safe_name(name) == key


def test_emoji_and_long_names_stay_apart():
    names = ["🐱", "🐶", "x" * 300, "x" * 300 + "y", "Cat", "cat"]
    assert len(set(class_keys(names))) == len(names)
    check_class_names(names)


@pytest.mark.parametrize(
    "names", [["dog", "a/b", "a_b"], ["é", "e\u0301"], ["cat", "x", "cat"], ["", "/"]]
)
def test_classes_that_share_a_key_are_an_error_that_names_both(names):
    clash = [n for n in names if safe_name(n) == safe_name(names[-1])]
    with pytest.raises(ConfigError, match="rename one") as caught:
        check_class_names(names)
    for name in clash:
        assert repr(name) in str(caught.value)
