"""`skerry get --watch`: the rows of a list, and each again when it has changed.

What planes report is no change of the log, so the list is read again and compared.
"""

import json
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.plumbing.clock import Clock

LOOK_SECONDS = 1.0
WIDTH_KEPT_MAX = 40  # of a column; a reason may be longer than the line that is left for it
# A value that ages with every look; that it did is no change.
AGES = ("report_age_seconds",)

Show = Callable[[Sequence[Any]], None]


def watch_rows(
    read: Callable[[], Sequence[Any]], show: Show, clock: "Clock", looks_max: int | None = None
) -> None:
    """Show all rows, then those that changed or are new, and name those that are gone.

    For ever, or for so many looks.
    """
    pause = threading.Event()  # never set: an interrupt ends the wait
    known: dict[str, str] = {}
    looks = 0
    while True:
        began = clock.monotonic()
        rows = {_key(row): row for row in read()}
        texts = {key: _text(row) for key, row in rows.items()}
        if changed := [rows[key] for key, text in texts.items() if known.get(key) != text]:
            show(changed)
        for key in known.keys() - texts.keys():
            typer.echo(f"{key} gone", err=True)
        known = texts
        looks += 1
        if looks == looks_max:
            return
        pause.wait(max(0.0, began + LOOK_SECONDS - clock.monotonic()))


def printer(plural: str, output: str, console: "Console") -> Show:
    """Return what shows rows as `get -o` does: the table's head once, JSON a line for each.

    Columns never become narrower, so that what comes later stands below what came before.
    """
    from skerry.cli import render

    columns = render.COLUMNS[plural]
    widths = [0] * len(columns)

    def show(rows: Sequence[Any]) -> None:
        if output == render.Format.JSON:
            for row in rows:
                typer.echo(json.dumps(render.to_plain(row)))
        elif output == render.Format.YAML:
            for row in rows:
                typer.echo(f"---\n{render.render_yaml(row)}")
        else:
            table = render.render_table(columns, rows)
            table.show_header = not any(widths)
            for number, (title, cell) in enumerate(columns):
                widest = max(len(title), *(len(str(cell(row))) for row in rows))
                widths[number] = max(widths[number], min(widest, WIDTH_KEPT_MAX))
                table.columns[number].min_width = widths[number]
            console.print(table)

    return show


def _key(row: Any) -> str:
    name = getattr(row, "name", None)  # prices have none
    return str(name) if name else f"{row.pool} {row.valid_from.isoformat()}"


def _text(row: Any) -> str:
    from skerry.cli.render import to_plain

    plain = to_plain(row)
    return json.dumps({key: value for key, value in plain.items() if key not in AGES})
