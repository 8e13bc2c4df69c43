from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.datasets.base import TEST, TRAIN, VAL, forget
from harness.datasets.table import Table
from harness.datasets.table_columns import Column, one_hot, standardised
from harness.errors import DataError

TABULAR = Path(__file__).parents[2] / ".." / "shared" / "data" / "tabular"


@pytest.fixture(autouse=True)
def _fresh():
    forget()
    yield
    forget()


@pytest.fixture
def write(tmp_path):
    """Write a file and return the table that reads it."""

    def make(text: str, name: str = "t.csv", **fields: Any) -> Table:
        (tmp_path / name).write_bytes(text.encode())
        return Table(file=tmp_path / name, **fields)

    return make


def csv_of(**columns: Any) -> str:
    return pd.DataFrame(columns).to_csv(index=False)


def names_of(table: Table) -> list[str]:
    return [column.name for column in table._parsed().columns]


# header


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a,b,y\n1,2,u\n3,4,v\n", True),
        ("1,2,u\n3,4,v\n", False),
        ("0.5,2,'-1'\n3,4,'1'\n0,1,'-1'\n", False),
        ('"a","b","y"\n1,2,u\n3,4,v\n', True),
        # text only: names do not come again below
        ("cap,odor,class\nx,n,p\nb,n,e\nx,a,e\n", True),
        ("x,n,p\nb,n,e\nx,a,e\n", False),
        # a first row of data in which a number is missing
        ("?,2,u\n3,4,v\n5,6,u\n", False),
        # a missing value does not make a column of numbers a column of text
        ("a,b,y\n?,2,u\nNA,4,v\n3,,u\n", True),
        # an unnamed first column, as written with an index
        (",a,y\n0,1,u\n1,2,v\n", True),
        # years as names: a word stands above numbers, and no row below looks like the first
        ("2001,2002,y\n" + ".5,.2,0\n.1,.7,1\n" * 6, True),
        ("2001,2002,2003,y\n" + "5,2,1,u\n1,7,2,v\n" * 6, True),
        # numbers as in the rows below, and a word that is a mark or a slip of the pen
        ("4,7,refused\n" + "4,7,1\n3,8,2\n" * 6, False),
        ("5,2,refused\n4,7,1\n3,8,2\n", False),
        ("0.5,<1,u\n0.4,7,v\n0.3,8,u\n", False),
        ("1,2,-\n4,5,6\n", False),
        ("y,a,b\n0,1.5,2\n1,2.5,1\n", True),
    ],
)
def test_a_header_is_found_out(text, header, write):
    table = write(text)
    rows = len(text.splitlines()) - header
    assert len(table.index().labels) == rows
    explicit = write(text, header=header)
    forget()
    assert explicit.index().ids == table.index().ids
    first = text.split(",", 1)[0].strip('"')
    expected = (first or "column_0") if header else "column_0"
    assert names_of(table)[0] == expected


def test_a_header_can_be_insisted_on(write):
    text = "2019,2020,2021\n1,2,3\n4,5,6\n"
    assert names_of(write(text)) == ["column_0", "column_1"]
    table = write(text, header=True, label_column="2019")
    assert names_of(table) == ["2020", "2021"]
    assert table.index().class_names == ("1", "4")


def test_column_names_stand_in_for_the_files(write):
    table = write("1,2,u\n3,4,v\n", column_names=("a", "b", "kind"), label_column="kind")
    assert names_of(table) == ["a", "b"]
    with pytest.raises(DataError, match="2 column_names for 3 columns"):
        write("1,2,u\n3,4,v\n", column_names=("a", "b")).index()


REAL = {
    "ecoli": (336, 7, 8, 143, 2),
    "glass": (214, 9, 6, 76, 9),
    "mammography": (11183, 6, 2, 10923, 260),
    "new-thyroid": (215, 5, 3, 150, 30),
    "oil-spill": (937, 49, 2, 896, 41),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.skipif(not TABULAR.is_dir(), reason="needs ../shared/data/tabular")
def test_published_tables_without_a_header(name):
    table = Table(file=TABULAR / f"{name}.csv")
    rows, columns, classes, largest, smallest = REAL[name]
    index = table.index()
    counts = np.bincount(index.labels)
    assert (len(index.labels), index.shape, len(counts)) == (rows, (columns,), classes)
    assert (counts.max(), counts.min()) == (largest, smallest)
    assert all("'" not in name for name in index.class_names)
    data = table.load(0)
    assert data.features.dtype == np.float32
    assert np.isfinite(data.features).all()
    assert data.continuous.all()
    assert data.mean is None
    if name == "mammography":
        assert index.class_names == ("-1", "1")
    if name == "glass":
        assert index.class_names == ("1", "2", "3", "5", "6", "7")


# reading


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(delimiter, write):
    text = f"a{delimiter}b{delimiter}y\n1{delimiter}2{delimiter}u\n3{delimiter}4{delimiter}v\n"
    assert names_of(write(text)) == ["a", "b"]
    assert names_of(write(text, delimiter=delimiter)) == ["a", "b"]


def test_quotes_blanks_byte_order_mark_and_line_ends(write):
    table = write("\ufeffa , b,y\r\n 1, \"2\" ,'u v'\r\n3,4,\" w,x \"\r\n\r\n5,6,'u v'\r\n")
    index = table.index()
    assert names_of(table) == ["a", "b"]
    assert index.class_names == ("u v", "w,x")
    assert index.labels.tolist() == [0, 1, 0]
    # rows as a spreadsheet numbers them, header and empty rows included
    assert index.ids == ["2", "3", "5"]
    np.testing.assert_array_equal(table.read(index), [[1, 2], [3, 4], [5, 6]])


def test_parquet_is_the_same_table_as_csv(tmp_path):
    frame = pd.DataFrame(
        {
            "a": [1.5, np.nan, 3.0, 4.0] * 5,
            "b": ["x", None, "y", "x"] * 5,
            "n": pd.array([1, 2, None, 4] * 5, dtype="Int64"),
            "f": [True, False] * 10,
            "y": [3.0, 10.0] * 10,
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    loaded = []
    for name in ("t.parquet", "t.csv"):
        table = Table(file=tmp_path / name, label_column="y")
        data = table.load(0)
        loaded.append(data)
        assert data.class_names[1].startswith("10")
    np.testing.assert_allclose(loaded[0].features, loaded[1].features)
    np.testing.assert_array_equal(loaded[0].labels, loaded[1].labels)
    np.testing.assert_array_equal(loaded[0].continuous, loaded[1].continuous)
    assert loaded[0].class_names == ("3", "10")


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("", {}, "empty"),
        ("\n\n", {}, "no rows|empty"),
        ("a,b\n", {"header": True}, "no rows"),
        ("x\n1\n2\n", {}, "one column"),
        ("a,b,y\n1,2,u\n1,2,3,v\n", {}, r"different lengths \(Expected 3 fields in line 3, saw 4"),
        ("a,a,y\n1,2,u\n3,4,v\n", {}, "same name: a"),
        ("a,b,y\n1,2,u\n3,4,v\n", {"label_column": "Y "}, "did you mean 'y'.*there are: a, b, y"),
        ("a,b,y\n1,2,u\n3,4,v\n", {"label_column": 3}, "label_column 3: there are 3 columns"),
        ("a,b,y\n1,2,u\n3,4,v\n", {"drop_columns": ["a", 1]}, "no feature column"),
        ("a,b,y\n1,2,u\n3,4,v\n", {"categorical": ["y"]}, "no feature: y"),
        ("a,b,y\n1,2,u\n3,inf,v\n-Infinity,-inf,v\n", {}, "'b' has 2 infinite|'a' has 1 infinite"),
        ("a,y\n1,u\n2,1e5\n1e308,v\n", {}, "'a' has 1 infinite"),
        ("a,y\n1,u\n2,\n3,v\n4,NA\n5, ?\n", {}, r"'y' has no value in 2 of 5 rows: row 3, 6"),
        (
            "a,s,y\n1,train,u\n2,tset,v\n",
            {"split_column": "s"},
            "'tset'.*row 3.*did you mean 'test'",
        ),
        ("a,s,y\n1,train,u\n2,,v\n", {"split_column": "s"}, "'s' has no value .* row 3"),
        ("a,s,y\n1,p1,u\n2,,v\n", {"group_column": "s"}, "'s' has no value .* row 3"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(text, fields, said, write, tmp_path):
    with pytest.raises(DataError, match=said) as error:
        write(text, **fields).index()
    assert str(tmp_path / "t.csv") in str(error.value)


def test_missing_files_and_wrong_encodings(tmp_path, write):
    write("a,y\n1,u\n", name="glass.csv")
    with pytest.raises(DataError, match=r"gloss\.csv.*did you mean 'glass\.csv'"):
        Table(file=tmp_path / "gloss.csv").index()
    (tmp_path / "latin.csv").write_bytes("a,y\n1,h\xf6he\n2,x\n".encode("latin1"))
    with pytest.raises(DataError, match="UTF-8"):
        Table(file=tmp_path / "latin.csv").index()
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="Parquet"):
        Table(file=tmp_path / "t.parquet").index()


def test_a_changed_file_is_read_again(write):
    first = write("a,y\n1,u\n2,v\n").index()
    second = write("a,y\n1,u\n2,v\n3,u\n").index()
    assert len(second.labels) == 3
    assert first.content != second.content


# labels


def test_labels_sort_as_numbers_where_they_are(write):
    assert write("a,y\n1,10\n2,9\n3,-1\n").index().class_names == ("-1", "9", "10")
    assert write("a,y\n1,10\n2,9\n3,b\n").index().class_names == ("10", "9", "b")
    assert write("a,y\n1,01\n2,02\n").index().class_names == ("01", "02")


def test_t23_spellings_of_one_label_are_named_or_made_one(write):
    text = "a,y\n1,Cat\n2,cat\n3,Cat\n4,dog\n5,big  dog\n6,Big dog\n7,Big dog\n"
    plain = write(text).index()
    assert len(plain.class_names) == 5
    (warning,) = plain.warnings
    assert "'Cat' = 'cat'" in warning
    assert "'Big dog' = 'big  dog'" in warning
    one = write(text, normalize_labels=True).index()
    assert one.class_names == ("Big dog", "Cat", "dog")
    assert one.labels.tolist() == [1, 1, 1, 2, 0, 0, 0]
    assert one.warnings == ()


def test_a_column_of_measurements_is_no_label(write):
    text = csv_of(a=range(60), y=np.linspace(0, 1, 60))
    with pytest.raises(DataError, match=r"60 different values in 60 rows.*label_column"):
        write(text).index()


def test_columns_by_name_or_position(write):
    text = "y,a,b,c\nu,1,2,3\nv,4,5,6\nu,7,8,9\n"
    assert names_of(write(text, label_column=0)) == ["a", "b", "c"]
    assert names_of(write(text, label_column="y", drop_columns=["b", -1])) == ["a"]


# splits


def test_split_group_and_fold_columns(write):
    text = csv_of(
        a=range(8),
        part=["train", "Training", "val", "TEST", "valid", "testing", "dev", "train"],
        who=["p2", "p2", "p10", "x", "p10", "x", "p10", "p2"],
        cv=[10, 2, 2, 10, 1, 1, 2, 10],
        y=list("uvuvuvuv"),
    )
    roles = {"split_column": "part", "group_column": "who", "fold_column": "cv"}
    table = write(text, **roles)
    index = table.index()
    assert index.split.tolist() == [TRAIN, TRAIN, VAL, TEST, VAL, TEST, VAL, TRAIN]
    assert index.fold.tolist() == [2, 1, 1, 2, 0, 0, 1, 2]
    assert len(set(index.group)) == 3
    assert names_of(table) == ["a"]
    with pytest.raises(DataError, match=r"leave out split_column or fold_column \(drop_columns"):
        table.info()
    del roles["fold_column"]
    counts = write(text, **roles, drop_columns=["cv"]).info().counts
    assert counts.sum(1).tolist() == [3, 3, 2]


def test_groups_stay_together_in_val_and_test(write):
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 5)
    text = csv_of(a=rng.normal(size=300), who=who, y=np.repeat(rng.permutation(60) % 3, 5))
    table = write(text, group_column="who")
    data = table.load(1)
    found = [set(who[part]) for part in (data.rows.train, data.rows.val, data.rows.test)]
    assert sum(map(len, found)) == 60
    assert all(found)


# features


def split_table(**columns: Any) -> str:
    part = ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    return csv_of(**columns, part=part, y=[0, 1] * 6)


BEFORE = {
    "a": [1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0, 90.0, 1.0, None, 3.0, 4.0],
    "b": ["x", "y", "x", None, "x", "y", "y", "x", "x", "y", "x", "x"],
    "k": [5, 5, 5, 5, 5, 5, 5, 5, 6, 7, 8, 9],
}


def test_t15_imputation_standardisation_and_categories_come_from_training_rows(write):
    after = {name: list(values) for name, values in BEFORE.items()}
    after["a"][8:] = [1e6, -1e6, None, 7e5]
    after["b"][8:] = ["new", None, "z", "z"]
    after["k"][8:] = [100, 200, 300, 400]
    first = write(split_table(**BEFORE), "a.csv", split_column="part").load(0)
    second = write(split_table(**after), "b.csv", split_column="part").load(0)
    np.testing.assert_array_equal(first.rows.train, np.arange(8))
    np.testing.assert_array_equal(first.features[:8], second.features[:8])
    assert first.features.shape == second.features.shape
    # by hand: the median of 1 2 4 5 6 7 90 is 5
    filled = np.array([1, 2, 5, 4, 5, 6, 7, 90.0])
    expected = (filled - filled.mean()) / filled.std()
    np.testing.assert_allclose(first.features[:8, 0], expected, rtol=1e-5)
    test_row = (1e6 - filled.mean()) / filled.std()
    assert second.features[8, 0] == pytest.approx(test_row, rel=1e-5)
    # val and test rows with a missing value get the training median, too
    assert first.features[9, 0] == pytest.approx((5 - filled.mean()) / filled.std(), rel=1e-5)


def test_one_hot_columns_and_unknown_categories(write):
    columns = {**BEFORE, "b": [*BEFORE["b"][:8], "x", "new", None, "z"]}
    data = write(split_table(**columns), split_column="part").load(0)
    # a, then missing, x and y of b; k is constant in the training rows
    assert data.features.shape == (12, 4)
    assert data.continuous.tolist() == [True, False, False, False]
    hot = data.features[:, 1:]
    expected = {"missing": [1, 0, 0], "x": [0, 1, 0], "y": [0, 0, 1]}
    for row, value in enumerate(columns["b"]):
        assert hot[row].tolist() == expected.get(value or "missing", [0, 0, 0])
    notes = "\n".join(data.notes)
    assert "'k' is the same in every training row" in notes
    assert "'a': 2 of 12 values missing, set to 5" in notes
    assert "'b': 2 rows have a category that no training row has" in notes


def test_the_longtail_decides_what_is_training(write):
    rng = np.random.default_rng(0)
    text = csv_of(a=rng.normal(size=400), y=np.arange(400) % 2)
    data = write(text, imbalance_factor=8).load(0)
    train = data.features[data.rows.train]
    assert len(train) < 200
    assert train.mean() == pytest.approx(0, abs=1e-6)
    assert train.std() == pytest.approx(1, abs=1e-6)
    assert abs(data.features.mean()) > 1e-4


def test_numbers_that_are_names_can_be_said_to_be(write):
    text = csv_of(code=[1, 2, 3, 1, 2, 3] * 4, a=range(24), y=[0, 1] * 12)
    data = write(text, categorical=["code"]).load(0)
    assert data.features.shape == (24, 4)
    assert data.continuous.tolist() == [False] * 3 + [True]
    assert set(np.unique(data.features[:, :3])) == {0.0, 1.0}


def test_columns_with_nothing_in_them_are_left_out_and_named(write):
    columns = {"empty": [""] * 12, "late": [""] * 10 + [1, 2], "a": range(12)}
    data = write(split_table(**columns), split_column="part").load(0)
    assert data.features.shape == (12, 1)
    assert any("'empty'" in note for note in data.notes)
    assert any("'late' has no value in a training row" in note for note in data.notes)
    only = write(split_table(k=BEFORE["k"]), "k.csv", split_column="part")
    with pytest.raises(DataError, match="every column is constant"):
        only.load(0)


def test_doubtful_columns_of_text_are_named(write):
    numbers = [str(k) for k in range(40)]
    text = csv_of(typo=[*numbers[:-1], "3o"], ident=[f"id{k}" for k in range(40)], y=[0, 1] * 20)
    warnings = "\n".join(write(text).index().warnings)
    assert "'ident' has 40 different texts in 40 rows" in warnings
    assert "'typo' is taken as text because of '3o'" in warnings
    many = csv_of(a=[f"id{k}" for k in range(1200)], y=[0, 1] * 600)
    with pytest.raises(DataError, match="1,200 different values such as 'id0'"):
        write(many).index()
    assert write(many, categorical=["a"]).load(0).features.shape[1] > 500


numbers = st.one_of(st.none(), st.floats(-1e90, 1e90), st.integers(-3, 3).map(float))


@settings(max_examples=200)
@given(st.lists(numbers, min_size=2, max_size=20), st.data())
def test_t15_standardised_is_finite_centred_and_blind_to_other_rows(values, data):
    array = np.array([np.nan if v is None else v for v in values])
    train = np.arange(data.draw(st.integers(1, len(values))))
    encoded, notes = standardised(Column("a", array), train)
    assert encoded.shape in {(len(values), 0), (len(values), 1)}
    if not encoded.shape[1]:
        assert notes
        return
    seen = encoded[train].astype(float)
    assert np.isfinite(seen).all()
    assert abs(seen.mean()) < 1e-4
    assert seen.std() == pytest.approx(1, abs=1e-3)
    other = array.copy()
    other[len(train) :] = 17.0
    again, _ = standardised(Column("a", other), train)
    np.testing.assert_array_equal(encoded[train], again[train])


@given(
    st.lists(st.sampled_from(["", "a", "b", "c", "ß", "日"]), min_size=1, max_size=20), st.data()
)
def test_t15_one_hot_has_one_column_per_training_category(values, data):
    train = np.arange(data.draw(st.integers(1, len(values))))
    encoded, _ = one_hot(Column("a", np.array(values, dtype=object)), train)
    categories = sorted(set(values[: len(train)]))
    if len(categories) == 1:
        assert encoded.shape == (len(values), 0)
        return
    assert encoded.shape == (len(values), len(categories))
    for row, value in enumerate(values):
        assert encoded[row].tolist() == [float(value == category) for category in categories]


# identity


def test_where_the_file_lies_is_no_identity(write):
    text = "a,y\n1,u\n2,v\n"
    first, second = write(text, "one.csv"), write(text, "two.csv")
    assert first.identity() == second.identity() == {"name": "table", "version": 1}
    assert first.index().content == second.index().content
    assert write(text, categorical=["a"]).identity() != first.identity()


def test_t04_loading_a_table_leaves_the_global_generator_alone(write):
    before = np.random.get_state()
    write(csv_of(a=range(40), y=[0, 1] * 20), imbalance_factor=2).load(0)
    after = np.random.get_state()
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


def test_unknown_fields_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="lable_column"):
        Table(file=tmp_path, lable_column="y")
    with pytest.raises(ValidationError, match="delimiter"):
        Table(file=tmp_path, delimiter=", ")
