"""The format of sql/, checked by `make lint`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.sql_format import check, deviations

GOOD = "-- What it is for: select the rest.\nSELECT id, 'select' AS \"from\" FROM t WHERE x <> 1;\n"


def test_all_of_sql_is_in_the_house_format() -> None:
    assert check() == []


def test_comments_strings_and_quoted_names_are_no_keywords() -> None:
    assert list(deviations(GOOD)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("SELECT", "select"), (2, "has keywords in lower case: select")),
        (GOOD.replace("WHERE", "\nWhere".lower()), (3, "has keywords in lower case: where")),
        (GOOD.replace("<>", "!="), (2, "has != in place of <>")),
        (GOOD.replace(";", " "), (2, "ends without a semicolon")),
        (
            GOOD.replace(" FROM", "\tFROM"),
            (2, "has a tab, a carriage return or a space at its end"),
        ),
        (GOOD.removesuffix("\n"), (1, "does not end with one newline")),
        (GOOD + "\n", (3, "does not end with one newline")),
        (GOOD + f"-- {'x' * 108}\n", (3, "has 111 columns, not 110 at most")),
    ],
)
def test_what_is_not_is_named_by_its_line(text: str, said: tuple[int, str]) -> None:
    assert said in list(deviations(text))


def test_a_file_says_what_it_is_for_by_a_comment_or_as_a_view(tmp_path: Path) -> None:
    directory = tmp_path / "sql"
    directory.mkdir()
    (directory / "bare.sql").write_text("SELECT 1;\n")
    view = "CREATE VIEW x AS\nSELECT 1 AS y;\n\nCOMMENT ON VIEW x IS 'One';\n"
    (directory / "view.sql").write_text(view)
    assert check(directory) == ["sql/bare.sql:1: begins without a comment that says what it is for"]
