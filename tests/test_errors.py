import pickle

import pytest

from harness import errors
from harness.errors import ConfigError, DataError, HarnessError, counted, did_you_mean, listing


@pytest.mark.parametrize("name", ["ConfigError", "DataError", "StoreError", "TrackingError"])
def test_every_error_of_a_user_is_caught_as_one(name):
    assert issubclass(getattr(errors, name), HarnessError)
    assert not issubclass(HarnessError, ValueError), "pydantic would swallow it in a validator"


def test_an_error_says_where_it_was_met_and_stays_what_it_is():
    found = errors.BadFilesError("2 files", {"a": "empty"})
    for again in (found.within("set"), pickle.loads(pickle.dumps(found.within("set")))):
        assert isinstance(again, errors.BadFilesError)
        assert str(again) == "set: 2 files"
        assert again.reasons == {"a": "empty"}
    assert str(found) == "2 files"


@pytest.mark.parametrize("word", ["x" * 400_000, "x y " * 100_000, "é\n" * 9 + "x" * 9_000])
def test_an_error_echoes_no_name_of_half_a_megabyte(word):
    said = str(ConfigError(f"file.yaml: no such key '{word}'; did you mean 'lr'?"))
    assert said.startswith(f"file.yaml: no such key '{word[0]}")
    assert said.endswith("'; did you mean 'lr'?")
    assert "more characters" in said
    assert len(said) < 1000
    assert did_you_mean(word, ["lr", word[:-1]]) == ""
    assert str(ConfigError(f"no key {word[:200]}")) == f"no key {word[:200]}"


def test_config_and_data_errors_can_be_told_apart():
    assert not issubclass(ConfigError, DataError)
    assert not issubclass(DataError, ConfigError)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")]
)
def test_a_number_comes_with_its_noun(count, text):
    assert counted(count, "row") == text
    assert counted(count, "class is", "classes are") == (
        text.replace("rows", "classes are").replace("row", "class is")
    )


@pytest.mark.parametrize(
    ("word", "near"),
    [("mixp", "mixup"), ("MIXUP", "mixup"), ("cut_mix", "cutmix"), ("smoote", "smote")],
)
def test_the_nearest_name_is_offered(word, near):
    assert did_you_mean(word, ["mixup", "cutmix", "smote"]) == f"; did you mean '{near}'?"


def test_a_name_is_offered_as_it_is_spelled():
    assert did_you_mean("horizontalflip", ["HorizontalFlip"]) == "; did you mean 'HorizontalFlip'?"


@pytest.mark.parametrize(("word", "known"), [("zzzz", ["mixup"]), ("", ["mixup"]), ("mixup", [])])
def test_nothing_is_offered_where_nothing_is_near(word, known):
    assert did_you_mean(word, known) == ""


def test_a_listing_names_all_or_says_how_many_are_left_out():
    assert listing(["a", "b"]) == "a, b"
    assert listing([]) == ""
    assert listing(range(20)) == ", ".join(map(str, range(20)))
    assert listing(range(23), 3) == "0, 1, 2, … (20 more)"


def test_a_listing_takes_what_can_be_read_only_once():
    assert listing((name for name in "abc"), 2) == "a, b, … (1 more)"
