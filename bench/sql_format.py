"""`python -m bench.sql_format`: check the house format of sql/, a line for each deviation."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from worker.infra.sql_files import SQL_DIR

MAX_COLUMNS: Final = 110
KEYWORDS_TEXT: Final = """\
ALL ALTER AND ANY ARRAY AS ASC BETWEEN BY CASE CHECK CONFLICT CONSTRAINT CREATE CROSS
DEFAULT DELETE DESC DISTINCT DO DROP ELSE END EXCEPT EXECUTE EXISTS FILTER FOR FROM
FUNCTION GRANT GROUP HAVING IN INDEX INSERT INTERSECT INTO IS JOIN LATERAL LEFT LIKE LIMIT
LOOP NOT NOTHING NULL NULLS OFFSET ON OR ORDER OVER PRIMARY REFERENCES RETURNING RETURNS
REVOKE SCHEMA SELECT SEQUENCE SET TABLE THEN TO UNION UNIQUE UPDATE USING VALUES VIEW WHEN
WHERE WITH
"""
KEYWORDS: Final = frozenset(KEYWORDS_TEXT.split())
# Comments, strings and quoted names: what is in them is no SQL.
NO_SQL: Final = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\"[^\"]*\"")


def deviations(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what is wrong with it) for the text of a file of sql/.

    Indents are not judged: continued lines are aligned with what they continue.
    """
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield text.count("\n"), "does not end with one newline"
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MAX_COLUMNS:
            yield number, f"has {len(line)} columns, not {MAX_COLUMNS} at most"
        if line != line.rstrip() or "\t" in line or "\r" in line:
            yield number, "has a tab, a carriage return or a space at its end"
    # Only newlines are kept of what is no SQL, so that lines keep their numbers.
    sql = NO_SQL.sub(lambda found: "\n" * found[0].count("\n"), text)
    for number, line in enumerate(sql.split("\n"), 1):
        if lower := [word for word in re.findall(r"[a-z]+", line) if _is_keyword(word, line)]:
            yield number, f"has keywords in lower case: {', '.join(lower)}"
        if "!=" in line:
            yield number, "has != in place of <>"
    yield from _open_ends(sql)


def _is_keyword(word: str, line: str) -> bool:
    return word.upper() in KEYWORDS and re.search(rf"(?<![\w.]){word}(?![\w(])", line) is not None


def _open_ends(sql: str) -> Iterator[tuple[int, str]]:
    last = sql.rstrip()
    if last and not last.endswith(";"):
        yield last.count("\n") + 1, "ends without a semicolon"


def check(directory: Path = SQL_DIR) -> list[str]:
    """Return a line for each deviation in the files of a directory, as file:line: what."""
    found: list[str] = []
    for path in sorted(directory.rglob("*.sql")):
        text = path.read_text(encoding="utf-8")
        wrong = list(deviations(text))
        # A view says what it is by its COMMENT.
        if not text.startswith("-- ") and "COMMENT ON VIEW" not in text:
            wrong.insert(0, (1, "begins without a comment that says what it is for"))
        found += [f"{path.relative_to(directory.parent)}:{line}: {what}" for line, what in wrong]
    return found


def main() -> None:
    """Exit with 1 and the deviations, if there are any."""
    found = check()
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    main()
