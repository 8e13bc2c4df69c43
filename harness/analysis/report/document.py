"""A page as data: sections of paragraphs, tables and pictures, and how they read as Markdown.

What is written is decided once, in `sections`; the HTML template and the Markdown page show it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.analysis.svg import Picture, plain


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        sort: What it is sorted by, where that is not the text.
        tone: ``better``, ``worse``, ``same`` or empty; told by the text as well.
        shade: −1…1, a colour behind the text: how much worse or better.
        strip: A small drawing beside the text.
        hint: The whole of a text that was cut.
    """

    text: str
    sort: float | str | None = None
    tone: str = ""
    shade: float | None = None
    strip: Picture | None = None
    hint: str = ""


@dataclass(frozen=True)
class Column:
    """The head of a column; `hint` explains it, `wide` columns hold text."""

    name: str
    hint: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption that says how its numbers come about."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    tall: bool = False
    """Scrolls within a fixed height on a screen; complete on paper."""


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    picture: Picture
    caption: str = ""


@dataclass(frozen=True)
class Thumbnails:
    """Small photographs in rows: each a PNG in base64, what to say of it, and its name."""

    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]


@dataclass(frozen=True)
class Paragraph:
    """Text; a list where it has items; `loud` is not to be overlooked."""

    text: str = ""
    items: Sequence[str] = ()
    loud: bool = False
    code: str = ""


Block = Paragraph | Table | Figure | Thumbnails


@dataclass(frozen=True)
class Part:
    """Blocks under a heading of their own, such as one dataset; `side` stands beside the rest."""

    title: str = ""
    blocks: Sequence[Block] = ()
    side: Sequence[Block] = ()


@dataclass(frozen=True)
class Section:
    """A chapter of the page; `rule` says by which decision rule its figures are."""

    title: str
    parts: Sequence[Part]
    rule: str = ""

    @property
    def anchor(self) -> str:
        """What a link to it ends in."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        title: Name of the experiment.
        lead: The first lines.
        answer: The answer in sentences, one list per dataset and model.
        warnings: What limits it.
        sections: The rest.
        foot: Where it came from.
    """

    title: str
    lead: str
    answer: Sequence[Sequence[str]]
    warnings: Sequence[str] = ()
    sections: Sequence[Section] = field(default_factory=list)
    foot: str = ""

    def chapter(self, title: str) -> Sequence[Part]:
        """Return the parts of the chapter of this title, or nothing where there is none."""
        return next((section.parts for section in self.sections if section.title == title), ())

    def markdown(self) -> str:
        """Return the page as Markdown, without its pictures; their text alternatives stand in."""
        lines = [f"# {_escaped(self.title)}", "", _escaped(self.lead), ""]
        for first, *rest in self.answer:
            lines += [f"**{_escaped(first)}** {_escaped(' '.join(rest))}", ""]
        lines += [line for text in self.warnings for line in (f"> **Note:** {_escaped(text)}", "")]
        for section in self.sections:
            lines += [f"## {section.title}", ""]
            lines += [f"*{_escaped(section.rule)}*", ""] if section.rule else []
            for part in section.parts:
                lines += [f"### {_escaped(part.title)}", ""] if part.title else []
                for block in (*part.blocks, *part.side):
                    lines += [*_markdown(block), ""]
        return "\n".join([*lines, _escaped(self.foot), ""])


def _markdown(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        if block.text:
            yield f"**{_escaped(block.text)}**" if block.loud else _escaped(block.text)
        yield from (f"- {_escaped(item)}" for item in block.items)
        if block.code:
            yield from ("```", plain(block.code), "```")
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Figure):
        yield f"*{_escaped(block.picture.title)}.* {_escaped(block.picture.alt)}"
    else:
        for title, images in block.rows:
            yield f"- {_escaped(title)}: " + "; ".join(_escaped(said) for _, said in images)


def _table(table: Table) -> Iterator[str]:
    yield "| " + " | ".join(_escaped(column.name) for column in table.columns) + " |"
    yield "|" + "|".join("---" if column.wide else "--:" for column in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_escaped(cell.hint or cell.text) for cell in row) + " |"
    if table.caption:
        yield from ("", f"*{_escaped(table.caption)}*")


_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


def _escaped(text: str) -> str:
    """Return text in which nothing is mark-up, on one line."""
    return _MARKS.sub(r"\\\1", " ".join(plain(text).split()))
