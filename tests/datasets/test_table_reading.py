"""Tables as people and programs write them: what each column is taken for, and what is said."""

import bz2
import codecs
import datetime
import decimal
import gzip
import hashlib
import lzma
import unicodedata
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from harness.datasets.base import forget
from harness.datasets.table import Table
from harness.errors import DataError


@pytest.fixture(autouse=True)
def _fresh():
    forget()
    yield
    forget()


@pytest.fixture
def write(tmp_path):
    """Write a text or a frame and return the table that reads it."""

    def make(what: Any, name: str = "t.csv", **fields: Any) -> Table:
        path = tmp_path / name
        if isinstance(what, bytes):
            path.write_bytes(what)
        elif isinstance(what, str):
            path.write_bytes(what.encode())
        elif name.endswith("parquet"):
            what.to_parquet(path)
        else:
            what.to_csv(path, index=False)
        return Table(file=path, **fields)

    return make


def said(table: Table) -> str:
    return "\n".join(table.index().warnings)


def frame(rows: int = 60, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = {"f": rng.normal(size=rows).round(3), **columns, "y": ["a", "b", "a"] * (rows // 3)}
    return pd.DataFrame(found)


def column_of(table: Table, name: str) -> Any:
    return next(column for column in table._parsed().columns if column.name == name)


# missing in every type


def blanks(values: Any) -> Any:
    return [None if k % 7 == 3 else v for k, v in enumerate(values)]


DAYS = pd.date_range("2020-01-01", periods=60, freq="37h")
TYPES = {
    "datetime": pd.Series(blanks(DAYS)),
    "zone": pd.Series(pd.DatetimeIndex(blanks(DAYS)).tz_localize("Europe/Paris")),
    "arrow timestamp": pd.Series(blanks(DAYS)).astype("timestamp[us][pyarrow]"),
    "date": pd.Series(blanks(DAYS.date)),
    "date32": pd.Series(blanks(DAYS.date)).astype(pd.ArrowDtype(pa.date32())),
    "timedelta": pd.Series(blanks(pd.to_timedelta(np.arange(60) ** 2, "min"))),
    "arrow duration": pd.Series(blanks(pd.to_timedelta(np.arange(60) ** 2, "min"))).astype(
        "duration[us][pyarrow]"
    ),
    "period": pd.Series(pd.PeriodIndex(blanks(pd.period_range("2020-01", periods=60, freq="M")))),
    "time": pd.Series(blanks([datetime.time(k % 24, k) for k in range(60)])),
    "Int64": pd.Series(blanks(range(3, 243, 4)), dtype="Int64"),
    "Float64": pd.Series(blanks(np.arange(60) / 7), dtype="Float64"),
    "arrow double": pd.Series(blanks(np.arange(60) / 7)).astype("double[pyarrow]"),
    "category of numbers": pd.Series(blanks(np.arange(60) % 9), dtype="category"),
    "decimal": pd.Series(blanks([decimal.Decimal(k) / 4 for k in range(60)])),
    "objects": pd.Series(
        [[None, np.nan, pd.NaT, pd.NA][k % 4] if k % 7 == 3 else k * 3 for k in range(60)],
        dtype=object,
    ),
}


@pytest.mark.parametrize("kind", TYPES)
def test_missing_is_missing_in_every_type(kind, write, monkeypatch):
    values = TYPES[kind]
    if kind == "objects":  # no file holds them, a frame does
        monkeypatch.setattr(pd, "read_parquet", lambda _: frame(c=values))
        table = write(b"PAR1", "t.parquet")
    else:
        table = write(frame(c=values), "t.parquet")
    column = column_of(table, "c")
    assert column.missing.tolist() == [k % 7 == 3 for k in range(60)]
    known = column.values[~column.missing].astype(float)
    assert np.abs(known).max() < 1e16
    if kind not in ("time", "category of numbers"):
        assert (np.diff(known) > 0).all()
    assert "9 of 60 missing" in table.columns()["c"]
    data = table.load(0)
    train = data.features[data.rows.train, 1].astype(float)
    assert (abs(train.mean()), train.std()) == pytest.approx((0, 1), abs=1e-5)
    # a missing value lies in the middle, not at an end
    assert np.abs(data.features[column.missing, 1]).max() < 1


@pytest.mark.parametrize("kind", ["boolean", "bool[pyarrow]", "string", "category"])
def test_a_missing_category_is_one_of_its_own_in_every_type(kind, write):
    words = blanks([True, False, False] * 20 if kind.startswith("bool") else ["u", "v", "u"] * 20)
    table = write(frame(c=pd.Series(words, dtype=kind)), "t.parquet")
    column = column_of(table, "c")
    assert column.missing.tolist() == [k % 7 == 3 for k in range(60)]
    assert table.columns()["c"] == "2 categories; 9 of 60 missing"
    assert table.load(0).features.shape == (60, 1 + 3)


KINDS = ("datetime", "zone", "date", "timedelta", "period", "time", "Int64", "decimal")


@pytest.mark.parametrize("kind", KINDS)
def test_text_and_parquet_are_one_table(kind, write):
    one = write(frame(c=TYPES[kind]), "t.parquet").load(0)
    forget()
    two = write(frame(c=TYPES[kind]), "t.csv").load(0)
    np.testing.assert_allclose(one.features, two.features, atol=1e-5)
    np.testing.assert_array_equal(one.continuous, two.continuous)


def test_dates_without_blanks_are_as_they_were_and_so_is_the_key(write):
    table = write(frame(c=DAYS), "t.parquet")
    assert len(table.index().content) == 64
    import hashlib

    whole = hashlib.sha256(table.file.read_bytes()).hexdigest()
    assert table.index().content == whole
    forget()
    assert (
        write(frame(c=TYPES["datetime"]), "u.parquet").index().content
        != hashlib.sha256((table.file.parent / "u.parquet").read_bytes()).hexdigest()
    )


def test_lists_in_a_column_are_told(write):
    with pytest.raises(DataError, match=r"'c' holds .*drop_columns"):
        write(frame(c=[[1, 2]] * 60), "t.parquet").index()


# numbers, as people write them


def test_marks_among_numbers_are_missing_values_and_named(write):
    marks = ["#N/A", "None", "-", ".", "missing", "n/a", "?", "--", "NULL", "Unknown"]
    for mark in marks:
        values = [mark if k % 20 == 7 else str(k * 0.5) for k in range(60)]
        table = write(frame(c=values))
        column = column_of(table, "c")
        assert column.numeric, mark
        assert column.missing.sum() == 3
        assert "3 of 60 missing" in table.columns()["c"]
        if mark not in ("n/a", "?", "NULL"):
            assert f"column 'c': no value in 3 cells: '{mark}' (3)" in said(table)
        forget()


def test_a_slip_of_the_pen_does_not_make_categories_of_measurements(write):
    values = [str(k * 0.25) for k in range(120)]
    values[5], values[9] = "2.5kg", "<0.1"
    table = write(frame(120, c=values))
    assert column_of(table, "c").missing.sum() == 2
    assert "no value in 2 cells: '2.5kg' (1), '<0.1' (1)" in said(table)


def test_there_or_not_there_is_told_by_two_categories(write):
    table = write(frame(c=["1", "", ""] * 20))
    assert not column_of(table, "c").numeric
    assert table.load(0).features.shape == (60, 3)


NUMBERS = np.array([1234.5, -0.25, 12.0, 1000000.75, 3.5, 7.125] * 10)


@pytest.mark.parametrize(
    ("write_one", "how"),
    [
        (lambda v: f"{v}".replace(".", ","), "decimal comma"),
        (lambda v: f"{v:,}".translate({44: 46, 46: 44}), "decimal comma"),
        (lambda v: f"{v:,}", "commas between thousands"),
        (lambda v: f"{v:,}".replace(",", " "), "is read as"),
        (lambda v: f"{v:,}".replace(",", "\u00a0"), "is read as"),
        (lambda v: f"{v:,}".replace(",", "\u202f").replace(".", ","), "decimal comma"),
        (lambda v: f"{v:,}".replace(",", "'"), "is read as"),
        (lambda v: f"{v} %", "% as a unit"),
        (lambda v: f"${v}".replace("$-", "-$"), "$ as a unit"),
        (lambda v: f"{v} €", "€ as a unit"),
        (lambda v: f"{v}".replace("-", "\u2212"), "is read as"),
        (lambda v: f"({-v})" if v < 0 else f"{v}", "is read as"),
        (lambda v: f"{v:.12e}", ""),
        (lambda v: f"{v:.12E}".replace(".", ","), "decimal comma"),
    ],
)
def test_numbers_in_many_ways_of_writing(write_one, how, write):
    table = write(frame(c=[write_one(float(v)) for v in NUMBERS]))
    np.testing.assert_allclose(column_of(table, "c").values, NUMBERS)
    assert how in said(table)
    assert "numbers" in table.columns()["c"]


def test_a_decimal_comma_throughout(write, tmp_path):
    plain = frame(60, g=np.arange(60) % 7 * 0.125, n=np.arange(60) % 5)
    plain.to_csv(tmp_path / "comma.csv", index=False, sep=";", decimal=",")
    found = write(plain).load(0).features
    forget()
    for fields in ({}, {"decimal": ","}):
        data = Table(file=tmp_path / "comma.csv", **fields).load(0)
        np.testing.assert_array_equal(data.features, found)
        forget()


def test_commas_that_may_be_either_are_refused_with_the_keys_that_tell(write):
    values = ["1,234", "5,678", "9,012"] * 20
    with pytest.raises(DataError, match=r"'c' holds '1,234'.*`decimal: ','`.*`thousands: ','`"):
        write(frame(c=values)).index()
    expected = {"decimal": [1.234, 5.678, 9.012], "thousands": [1234, 5678, 9012]}
    for key, numbers in expected.items():
        column = column_of(write(frame(c=values), **{key: ","}), "c")
        np.testing.assert_allclose(column.values[:3], numbers)
    # another column of the file tells
    other = write(frame(c=values, d=["0,5", "1,5", "2,75"] * 20))
    np.testing.assert_allclose(column_of(other, "c").values[:3], [1.234, 5.678, 9.012])
    assert not column_of(write(frame(c=values), categorical=["c"]), "c").numeric


def test_points_between_thousands_where_decimals_have_commas(write):
    table = write(frame(c=["1.234", "56.789", "900"] * 20, d=["0,5", "1,5", "2,75"] * 20))
    np.testing.assert_allclose(column_of(table, "c").values[:3], [1234, 56789, 900])
    forget()
    table = write(frame(c=["1.234", "56.789", "900"] * 20))
    np.testing.assert_allclose(column_of(table, "c").values[:3], [1.234, 56.789, 900])


def test_whole_numbers_beyond_two_to_the_53_keep_their_differences(write):
    large = [2**60 + 3 * k for k in range(60)]
    for name in ("t.csv", "t.parquet"):
        table = write(frame(c=large), name)
        np.testing.assert_array_equal(column_of(table, "c").values, np.arange(60) * 3)
        data = table.load(0)
        assert data.features.shape == (60, 2)
        assert not any("same in every" in note for note in data.notes)
        assert f"counted from the smallest, {2**60}" in said(table)
        forget()


def test_what_differs_by_rounding_only_is_not_called_the_same(write):
    values = [0.1 + 0.2 if k % 2 else 0.3 for k in range(60)]
    (note,) = write(frame(c=values)).load(0).notes
    assert "'c' differs in the training rows by less than 1e-12" in note


def test_a_number_far_from_all_others_is_asked_about(write):
    values = np.where(np.arange(60) % 10 == 3, -999, np.random.default_rng(1).normal(size=60))
    table = write(frame(c=values))
    assert "holds -999 in 6 of 60 rows" in said(table)
    forget()
    for name in ("t.csv", "t.parquet"):
        asked = write(frame(c=values), name, na_values=[-999])
        assert column_of(asked, "c").missing.sum() == 6
        forget()


def test_codes_with_leading_zeros_are_named(write):
    assert "leading zeros as in '007'" in said(write(frame(c=["007", "012", "110"] * 20)))


# dates as text


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d",
        "%Y/%m/%d",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M",
        "%d.%m.%Y",
        "%m/%d/%Y",
        "%d-%m-%Y %H:%M:%S",
    ],
)
def test_dates_in_text_are_dates(form, write):
    texts = [day.strftime(form) if k % 7 != 3 else "" for k, day in enumerate(DAYS)]
    column = column_of(write(frame(c=texts)), "c")
    assert column.kind == "dates"
    whole = DAYS if "H" in form else DAYS.normalize()
    if "%H:%M" in form and "%S" not in form:
        whole = DAYS.floor("min")
    expected = whole.to_numpy().astype("M8[us]").astype(float)
    np.testing.assert_allclose(
        column.values[~column.missing], expected[np.arange(60) % 7 != 3], rtol=0, atol=1
    )


def test_dates_that_may_be_either_stay_text_and_are_named(write):
    table = write(frame(c=["01/02/2020", "03/04/2020", "05/06/2021"] * 20))
    assert "nobody can tell day from month" in said(table)


# labels and groups


def test_a_class_may_be_called_like_a_missing_value(write):
    for name in ("NA", "None", "null", "n/a", "missing"):
        found = frame().assign(y=lambda f, n=name: np.where(f.y == "a", "EU", n))
        table = write(found)
        assert set(table.index().class_names) == {"EU", name}
        assert f"na_values: ['{name}']" in said(table)
        forget()
        asked = write(found, na_values=[name])
        with pytest.raises(DataError, match=r"has no value in 20 of 60.*unlabelled: drop"):
            asked.index()
        forget()


def test_rows_without_a_label_can_be_left_out(write):
    found = frame().assign(y=lambda f: f.y.where(np.arange(60) % 10 > 0))
    with pytest.raises(DataError, match=r"row 2, 12.*`unlabelled: drop`"):
        write(found).index()
    forget()
    table = write(found, unlabelled="drop")
    assert len(table.index().labels) == 54
    assert "6 rows have no label and are left out: row 2, 12" in said(table)
    assert table.index().ids[0] == "3"
    assert table.load(0).features.shape[0] == 54


def test_a_label_that_reads_nan_is_an_error_that_says_how_to_keep_it(write):
    found = frame().assign(y=lambda f: np.where(f.y == "a", "nan", "b"))
    with pytest.raises(DataError, match=r"'nan' is the name of a class, say `na_values: \[\]`"):
        write(found).index()
    forget()
    assert write(found, na_values=[]).index().class_names == ("b", "nan")


SPELLINGS = {
    "numbers": ("1", "1.0"),
    "leading zeros": ("7", "07"),
    "zero width": ("cat", "c\u200bat"),
    "no break": ("big cat", "big\u00a0cat"),
    "accents": (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")),
    "case": ("cat", "Cat"),
    "full width": ("A1", "\uff211"),
    "dashes": ("a-b", "a\u2013b"),
    "byte-order mark": ("cat", "\ufeffcat"),
    "soft hyphen": ("cat", "ca\u00adt"),
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_labels_that_are_one_to_a_person(kind, write):
    usual, other = SPELLINGS[kind]
    labels = [usual, usual, other, "dog", "dog"] * 12
    table = write(frame().assign(y=labels))
    assert len(table.index().class_names) == 3
    (warning,) = (text for text in table.index().warnings if "differ only in" in text)
    assert "`normalize_labels: true` makes them one" in warning
    assert warning.isprintable()
    before, after = warning.split(": ", 1)[1].split(";")[0].split(" = ")
    assert before != after
    forget()
    one = write(frame().assign(y=labels), normalize_labels=True).index()
    assert set(one.class_names) == {usual, "dog"}
    assert one.warnings == ()


def test_classes_that_are_made_one_keep_one_case(write):
    labels = ["cat", "cat", "cat", "Cat", "Dog", "dog"] * 10
    plain = write(frame().assign(y=labels), normalize_labels=True).index()
    forget()
    labels[-1] = "Dog"  # now most are
    other = write(frame().assign(y=labels), normalize_labels=True)
    assert plain.class_names == other.index().class_names == ("cat", "dog")
    as_before = hashlib.sha256(other.file.read_bytes()).hexdigest()
    assert other.index().content != as_before, "its runs had a class Dog"


@pytest.mark.parametrize(
    "pair", [("1", "-1"), ("1", "10"), ("1.5", "15"), ("a", "á"), ("0", "00.1")]
)
def test_labels_that_are_two_to_a_person(pair, write):
    labels = [pair[0], pair[0], pair[1]] * 20
    index = write(frame().assign(y=labels), normalize_labels=True).index()
    assert len(index.class_names) == 2


def test_groups_that_look_alike_or_are_called_na(write):
    who = ["p1", "P1", "NA", "p2", "p3", "p4"] * 10
    table = write(frame(who=who), group_column="who")
    assert len(set(table.index().group)) == 6
    assert "groups in column 'who' differ only in case or blanks: 'P1' = 'p1'" in said(table)
    assert "'NA' (10 rows) is taken as the name of a group" in said(table)
    forget()
    one = write(frame(who=who), group_column="who", normalize_labels=True)
    assert len(set(one.index().group)) == 5


def test_one_class_and_no_rows_are_told_as_that(write):
    with pytest.raises(DataError, match="holds one class only, 'a', in all 60 rows"):
        write(frame().assign(y="a")).index()
    with pytest.raises(DataError, match="a header and no rows"):
        write("a,b,y\n").index()
    with pytest.raises(DataError, match="a header and no rows"):
        write(frame().head(0), "t.parquet").index()


# an index, a counter, a leak


def sorted_frame(rows: int = 60) -> pd.DataFrame:
    return frame(rows).sort_values("y", ignore_index=True)


INDICES = {
    "saved": lambda f: f.to_csv(),
    "shuffled": lambda f: f.sample(frac=1, random_state=0).to_csv(),
    "filtered": lambda f: f[f.index % 7 != 1].to_csv(),
    "one below another": lambda f: pd.concat([f, f + f]).to_csv(),
    "saved twice": lambda f: pd.read_csv(__import__("io").StringIO(f.to_csv())).to_csv(index=False),
    "called index": lambda f: f.reset_index().to_csv(index=False),
    "from one": lambda f: f.assign(n=np.arange(1, 61))[["n", "f", "y"]].to_csv(index=False),
    "downwards": lambda f: f.assign(n=np.arange(60, 0, -1))[["n", "f", "y"]].to_csv(index=False),
    "from a thousand": lambda f: f.assign(n=range(1000, 1060))[["n", "f", "y"]].to_csv(index=False),
    "names of rows": lambda f: f.set_axis([f"r{k}" for k in f.index]).to_csv(),
    "days": lambda f: f.set_axis(DAYS.date).to_csv(),
    "R": lambda f: f.to_csv().removeprefix(","),
}


@pytest.mark.parametrize("kind", INDICES)
def test_a_saved_index_or_a_counter_is_no_feature(kind, write):
    table = write(INDICES[kind](sorted_frame()))
    first = next(iter(table.columns()))
    assert [column.name for column in table._parsed().columns] == ["f"]
    assert table.columns()[first].startswith("left out: ")
    assert f"`keep_columns: [{first}]`" in said(table)
    assert table.load(0).features.shape[1] == 1


def test_a_counter_is_kept_where_that_is_asked_for(write):
    table = write(sorted_frame().assign(n=range(60))[["n", "f", "y"]], keep_columns=["n"])
    assert [column.name for column in table._parsed().columns] == ["n", "f"]
    assert "'n' alone orders the classes" in said(table)


def test_the_index_of_parquet_is_no_feature_but_can_be_named(write):
    found = sorted_frame().set_index(pd.Index([f"p{k // 4}" for k in range(60)], name="patient"))
    table = write(found, "t.parquet")
    assert table.columns()["patient"] == "index of the file: left out"
    assert table.load(0).features.shape == (60, 1)
    forget()
    assert len(set(write(found, "t.parquet", group_column="patient").index().group)) == 15


def test_what_is_no_counter_is_a_feature(write):
    year = np.arange(60) + np.arange(60) // 30
    table = write(frame(c=year, d=np.arange(60) * 2, e=np.arange(60) % 30))
    assert [column.name for column in table._parsed().columns] == ["f", "c", "d", "e"]


LEAKS = {
    "equal": lambda y: y,
    "other names": lambda y: np.where(y == "b", "bad", "good"),
    "almost": lambda y: np.where(np.arange(len(y)) == 7, "b", y),
    "a number": lambda y: (y == "b") * 3.5,
    "a score": lambda y: (y == "b") * 5 + np.random.default_rng(0).random(len(y)),
    "downwards": lambda y: np.random.default_rng(0).random(len(y)) - (y == "b") * 5,
    "many codes": lambda y: [f"{v}{k % 12}" for k, v in enumerate(y)],
}


@pytest.mark.parametrize("kind", LEAKS)
def test_a_column_that_tells_the_label_is_suspected(kind, write):
    plain = frame(600)
    table = write(plain.assign(c=LEAKS[kind](plain.y.to_numpy()))[["f", "c", "y"]])
    (warning,) = (text for text in table.index().warnings if "leak" in text)
    assert "column 'c' alone" in warning
    assert "drop_columns" in warning
    assert "suspect" in table.columns()["c"]
    assert table.columns()["f"] == "numbers"


def test_three_classes_in_order_are_suspected_and_chance_is_not(write):
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], 600, p=[0.9, 0.08, 0.02])
    score = np.select([y == "a", y == "b"], [0, 5], 9) + rng.random(600)
    noise = {f"n{k}": rng.normal(size=600).round(1) for k in range(20)}
    names = [f"id{k}" for k in rng.integers(0, 300, 600)]
    table = write(pd.DataFrame({"score": score, **noise, "names": names, "y": y}))
    (warning,) = (text for text in table.index().warnings if "leak" in text)
    assert "'score' alone orders the classes" in warning


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_copies_do_not_make_a_leak_of_every_column(noise, write):
    def again(k):
        return frame(120).assign(f=lambda frame: frame["f"] + k * noise)

    table = write(pd.concat([again(k) for k in range(5)]))
    assert not any("leak" in text for text in table.index().warnings)
    assert any("rows are both in train and in test" in text for text in table.load(0).notes)


def test_numbers_that_differ_in_more_than_their_last_digits_make_no_copies(write):
    rng = np.random.default_rng(0)
    near = [frame(120).assign(f=lambda frame: frame["f"] + rng.normal(0, 1e-3, 120)) for _ in "12"]
    assert not any("both in" in text for text in write(pd.concat(near)).load(0).notes)


def test_lines_of_comment_above_a_table_are_told(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("# of 2020\n# by us\n" + frame(42).to_csv(index=False))
    with pytest.raises(DataError, match="begins with 2 lines of comment"):
        Table(file=file, label_column="y").index()


def test_an_identifier_is_asked_about(write):
    ids = np.random.default_rng(0).permutation(900)[:60] + 10_000
    assert "'user_id' holds another whole number in every row" in said(write(frame(user_id=ids)))


# rows twice


def test_rows_in_two_splits_are_counted_and_named(write):
    copies = pd.concat([frame(60)] * 3)
    data = write(copies).load(0)
    notes = [note for note in data.notes if "both in" in note]
    assert len(notes) == 3
    first = next(note for note in notes if "in train and in test" in note)
    assert "rows are both in train and in test: " in first
    assert "delete the copies, or keep them together with a group (group_column)" in first
    a, b = first.split("test: ")[1].split(",")[0].split(" = ")
    index = data.index
    one, two = index.ids.index(a), index.ids.index(b)
    np.testing.assert_array_equal(data.features[one], data.features[two])
    count = int(first.split()[0])
    train = {row.tobytes() for row in data.features[data.rows.train]}
    test = {row.tobytes() for row in data.features[data.rows.test]}
    assert count == len(train & test)


def test_rows_that_few_values_make_equal_are_called_chance(write):
    rng = np.random.default_rng(0)
    table = write(pd.DataFrame({"a": rng.integers(0, 3, 90), "b": rng.integers(0, 4, 90),
                                "y": rng.integers(0, 2, 90)}))  # fmt: skip
    assert table.index().by_chance
    notes = [note for note in table.load(0).notes if "both in" in note]
    assert notes
    assert all("chance" in note for note in notes)


# files


def packed(text: bytes, how: str) -> bytes:
    return {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[how](text)


@pytest.mark.parametrize("how", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_packed_files_are_the_same_table(how, separator, write):
    text = frame().to_csv(index=False, sep=separator).encode()
    plain = write(text, "t.tsv").load(0)
    forget()
    data = write(packed(text, how), f"t.csv.{how}").load(0)
    np.testing.assert_array_equal(plain.features, data.features)
    np.testing.assert_array_equal(plain.labels, data.labels)


@pytest.mark.parametrize(
    ("encoding", "fields"),
    [
        ("utf-8-sig", {}),
        ("utf-16", {}),
        ("utf-32", {}),
        ("utf-16-le", {"encoding": "utf-16-le"}),
        ("cp1252", {"encoding": "cp1252"}),
        ("latin-1", {"encoding": "latin-1"}),
    ],
)
def test_encodings(encoding, fields, write):
    text = frame().assign(y=lambda f: f.y + "ö").to_csv(index=False)
    raw = text.encode(encoding)
    assert write(raw, **fields).index().class_names == ("aö", "bö")
    if fields:
        forget()
        with pytest.raises(DataError, match=r"not UTF-8 text.*`encoding: "):
            write(raw).index()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (gzip.compress(b"a,b,y\n1,2,u\n" * 99, mtime=0)[:40], "cannot be read"),
        (b"PK\x03\x04rest", "ZIP archive or a spreadsheet"),
        (b"\x28\xb5\x2f\xfdrest", "Zstandard"),
        (b'a,b,y\n1,2,"u\n3,4,v\n', "quotation mark in row 2 has no second one"),
        (codecs.BOM_UTF8, "empty"),
        (
            b"a,b,y\n1,2,u\n3,4,v,w\n5,6\n",
            r"different lengths \(Expected 3 fields in line 3, saw 4",
        ),
    ],
)
def test_files_that_are_no_table(raw, message, write):
    with pytest.raises(DataError, match=message):
        write(raw).index()


def test_an_unknown_encoding_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="no encoding that Python knows"):
        Table(file=tmp_path / "t.csv", encoding="utf-9")


@pytest.mark.parametrize("head", ["f,c,y", "f,c,y,"])
def test_a_delimiter_at_the_end_of_each_row(head, write):
    rows = "".join(f"{k * 0.5},{k % 4},{'ab'[k % 2]},\n" for k in range(40))
    table = write(f"{head}\n{rows}")
    assert list(table.columns()) == ["f", "c", "y"]
    assert table.index().class_names == ("a", "b")
    assert "ends with a delimiter" in said(table)


def test_short_rows_are_named(write):
    text = frame().assign(z=1.5)[["y", "f", "z"]].to_csv(index=False).replace(",1.5", "", 3)
    table = write(text, label_column="y")
    assert column_of(table, "z").missing.sum() == 3
    assert "3 rows have fewer cells than the others" in said(table)


def test_semicolons_in_quotes_and_without_are_no_delimiter(write):
    rows = "".join(f'{k * 0.5},{k % 3},"a;b",c;d,{k % 5},{"uv"[k % 2]}\n' for k in range(40))
    table = write(f"e,f,g,h,i,y\n{rows}")
    assert list(table.columns()) == ["e", "f", "g", "h", "i", "y"]
    assert table.load(0).notes[-1].endswith("left out")


def test_the_first_line_may_tell_the_delimiter(write):
    table = write("sep=;\n" + frame().to_csv(index=False, sep=";"))
    assert list(table.columns()) == ["f", "y"]
    assert table.index().ids[0] == "3"


def test_years_as_names_are_a_header(write):
    numbers = np.random.default_rng(0).normal(size=(60, 4)).round(3)
    found = pd.DataFrame(numbers, columns=["2001", "2002", "2003", "2004"])
    for labels in ([0, 1, 0] * 20, ["u", "v", "u"] * 20):
        table = write(found.assign(target=labels))
        assert len(table.index().labels) == 60
        assert len(table.index().class_names) == 2
        forget()
    counted = pd.DataFrame(np.c_[numbers, [0, 1] * 30])
    assert len(write(counted.to_csv(index=False)).index().labels) == 60


def test_a_first_row_that_may_hold_names_is_asked_about(write):
    table = write("5,2,kind\n" + "4,2,u\n5,1,v\n" * 20)
    assert "the first row is taken as data, and alone is of class 'kind'" in said(table)


def test_copies_in_test_are_counted_where_they_are_no_chance(write):
    data = write(pd.concat([frame(60)] * 3)).load(0)
    train_and_val = {data.features[row].tobytes() for part in (data.rows.train, data.rows.val)
                     for row in part}  # fmt: skip
    copies = sum(data.features[row].tobytes() in train_and_val for row in data.rows.test)
    assert data.copies() == copies > 10
    forget()
    assert write(frame(60)).load(0).copies() == 0
    forget()
    few = pd.DataFrame({"a": np.arange(90) % 3, "b": np.arange(90) % 2, "y": np.arange(90) % 5 > 2})
    assert write(few).load(0).copies() == 0
