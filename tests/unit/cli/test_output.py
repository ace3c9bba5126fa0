"""Tables show everything, and a secret goes to stdout alone where somebody may catch it there."""

from __future__ import annotations

import io
import json
import re

import pytest

from foregate.cli.output import note, print_facts, print_issued, print_json, print_table, share_width, show

LONG = "x" * 300


def test_a_piped_table_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "id"), [(LONG, 1), ("b", None)])
    lines = capsys.readouterr().out.splitlines()
    assert any(LONG in line for line in lines)
    assert lines[-1].split() == ["b", "-"]


class Terminal(io.StringIO):
    """A narrow one."""

    def isatty(self) -> bool:
        return True


def test_narrow_terminal_leaves_out_spare_columns_before_it_folds_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = ("name", "id", "client id", "enabled", "expires", "last seen")
    row = ("ci", "1" * 36, f"{'2' * 32}.access", True, "2027-01-01T00:00:00Z", "2026-11-24T03:28:41.123Z")
    screen = Terminal()
    print_table(columns, [row], spare=("id", "expires"), stream=screen)
    shown = screen.getvalue()
    assert row[2] in shown
    assert row[1] not in shown
    assert "2026-11-24" in shown
    assert "03:28:41Z" in shown
    monkeypatch.setenv("COLUMNS", "70")
    screen = Terminal()
    print_table(columns, [row], spare=("id", "expires"), stream=screen)
    assert row[2] in screen.getvalue()
    assert "expires" not in screen.getvalue()
    monkeypatch.setenv("COLUMNS", "140")
    screen = Terminal()
    print_table(columns, [row], spare=("id", "expires"), stream=screen)
    assert row[1] in screen.getvalue()
    assert "expires" in screen.getvalue()


@pytest.mark.parametrize("columns", [80, 100, 120, 140])
def test_narrow_terminal_breaks_no_date_and_no_id(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    heads = ("name", "id", "client id", "enabled", "expires", "last seen")
    ends = ("2027-01-01T00:00:00Z", "2026-11-24T03:28:41.123Z")
    rows = [
        (name, "1" * 36, f"{'2' * 32}.access", True, *ends) for name in ("ci", "a name of many words, longer than most")
    ]
    screen = Terminal()
    print_table(heads, rows, spare=("id", "expires"), stream=screen)
    shown = re.sub(r"\x1b\[[0-9]*m", "", screen.getvalue())  # bold headings
    assert max(map(len, shown.splitlines())) <= columns
    assert shown.count("2026-11-24") == shown.count(rows[0][2]) == 2


@pytest.mark.parametrize(
    ("full", "least", "room", "widths"),
    [
        ([4, 40], [4, 8], 50, [4, 40]),
        ([4, 40], [4, 8], 30, [4, 26]),
        ([20, 40, 36], [10, 8, 36], 60, [12, 12, 36]),
        ([30, 30], [30, 30], 40, [20, 20]),
    ],
    ids=["room for all", "the widest gives way", "none below its longest word", "unless nothing else helps"],
)
def test_columns_share_the_width(full: list[int], least: list[int], room: int, widths: list[int]) -> None:
    assert share_width(full, least, room) == widths


def test_markup_in_a_name_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"name": "[red]x[/] :smile:"})
    assert "[red]x[/] :smile:" in capsys.readouterr().out


def test_a_secret_is_all_that_a_pipe_gets(capsys: pytest.CaptureFixture[str]) -> None:
    print_issued({"name": "ci"}, "cfast_secret")
    captured = capsys.readouterr()
    assert captured.out == "cfast_secret\n"
    assert "cfast_secret" not in captured.err
    assert "ci" in captured.err


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "ü"})
    assert json.loads(capsys.readouterr().out) == {"name": "ü"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        ([], "-"),
        (["a", None], "a, -"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert show(value) == shown


@pytest.mark.parametrize("order", ["\x1b[2J", "\x1b]0;t\x07", "\x9b2J", "\x7f", "\r", "\n", "\u202e", "\u2028"])
def test_text_of_others_gives_a_terminal_no_orders(capsys: pytest.CaptureFixture[str], order: str) -> None:
    print_facts({"name": f"a{order}b"})
    print_table(("name",), [(f"a{order}b",), ([f"a{order}b"],), ({"x": f"a{order}b"},)])
    note(f"a{order}b")
    print_json({"name": f"a{order}b"})
    captured = capsys.readouterr()
    assert f"a{order}b" not in captured.out + captured.err
    assert json.loads(captured.out[captured.out.rindex("{\n") :]) == {"name": f"a{order}b"}
