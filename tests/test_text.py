import io
import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from harness.terminal import Terminal
from harness.text import csv_cell, csv_text, storable, visible, visible_json

EVERYTHING = st.text(st.characters(codec=None, exclude_categories=()))
MOVES_THE_CURSOR = "rare\x1b[2J\x1b]0;title\x07\r\x9b1Aclass\u202e\x00"


def may_be_printed(text: str) -> bool:
    """Whether nothing in it is a control character, a lone surrogate, or turns the text around."""
    return all(
        c in "\n\t"
        or (
            unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")
            and unicodedata.bidirectional(c)
            not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        )
        for c in text
    )


@given(EVERYTHING)
def test_what_is_shown_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert may_be_printed(visible(text))
    assert visible(visible(text)) == visible(text)


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("", "naïve Größe\n\tα", "犬", "👩\u200d🔬", "می\u200cخواهم", r"C:\x1b"):
        assert visible(text) == storable(text) == text


def test_escapes_say_what_stood_there() -> None:
    assert visible("a\x1b[31mb\x9bc\u202ed\udcff\r") == r"a\x1b[31mb\x9bc\u202ed\udcff" + r"\r"
    assert storable("a\x1bb\udcff") == "a\x1bb" + r"\udcff"


@given(EVERYTHING)
def test_every_file_takes_what_is_storable(text: str) -> None:
    assert storable(text).encode("utf-8").decode("utf-8") == storable(text)


@given(EVERYTHING)
def test_json_reads_the_same_and_shows_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = visible_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert may_be_printed(shown)
    assert json.loads(shown) == {text: [text]}


def test_a_console_shows_control_characters_escaped_and_keeps_a_table_straight() -> None:
    shown = io.StringIO()
    console = Terminal(file=shown, width=100, force_terminal=True, color_system="standard")
    table = Table("class", "n", box=None)
    table.add_row(MOVES_THE_CURSOR, "1")
    table.add_row("[bold]common[/bold] :smile:", "2")
    console.print(table)
    console.print(MOVES_THE_CURSOR, Text(MOVES_THE_CURSOR), style="red")
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(MOVES_THE_CURSOR)
    text = shown.getvalue()
    for obeyed in ("\x1b[2J", "\x1b]0", "\x07", "\r\x9b", "\x9b", "\u202e", "\x00"):
        assert obeyed not in text
    assert text.count(r"rare\x1b[2J") >= 4
    one, two = text.splitlines()[1:3]
    assert one.rstrip().rindex("1") == two.rstrip().rindex("2")
    assert "[bold]common[/bold] :smile:" in two
    assert "\x1b[31m" in text


@given(EVERYTHING | st.text("'=+-@\t\r1.e", max_size=6))
def test_a_cell_is_no_formula_and_reads_back(text: str) -> None:
    cell = csv_cell(text)
    assert csv_text(cell) == text
    try:
        float(cell)
    except ValueError:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_only_what_a_spreadsheet_would_compute_is_quoted() -> None:
    assert csv_cell('=HYPERLINK("x")') == '\'=HYPERLINK("x")'
    assert csv_cell("-2+3") == "'-2+3"
    assert [csv_cell(text) for text in ("-1", "+0.5", "'s-Hertogenbosch", "a=b", "")] == [
        "-1",
        "+0.5",
        "'s-Hertogenbosch",
        "a=b",
        "",
    ]
