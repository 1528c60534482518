"""Names keep to the glossary: words that it replaced stay out of code, SQL and log events."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = (
    *("worker", "webhook_receiver", "ops", "sql"),
    *("tests/chaos", "tests/fuzz", "tests/oracle"),
)

REPLACED: Final = re.compile(
    r"held|stamp|stamps|stamped|bury|buries|buried|nominee|nominees|nominates|doubted|nets"
    r"|look|looks|looked|looking|untold|reread|rereads|ring|rings|ringing|rung|unrung|doorbell"
    r"|vain|chore|chores|turn|turns|flag|flags|flagged|catalogue|catalogues|prolong|forget"
    r"|forgets|forgotten|told|news|anew|whose|door|meet|deed|deeds|mend|mends|mended|spoil"
    r"|oddities|mischief|deserters|crew|households"
)
"""Parts of names."""
REPLACED_FORMS: Final = re.compile(
    r"^(Claim|Place)$|PutOff|put_off|hand(ed|s)?_back|FencedOff|fenced_off|by_and_by"
    r"|(^|_)(MOST|LEAST|LONGEST|SHORTEST|FEWEST)_|_(MAX|MIN|WITHIN_S|FOR_S)$|^(within|for)_s$"
    r"|silence"
)
KEPT: Final = frozenset(
    {
        "flagged_deletions",  # a view and a column of the contract
        "flagged_at",
        "deletion_flagged_at",
        "deletion_flag",
        "is_flag",  # click's
        "flags",  # re's
    }
)

NAME: Final = re.compile(r"[A-Za-z_]\w*")
PART: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
LOG_CALL: Final = re.compile(r"\blog\.(?:debug|info|warning|error|exception)\(\s*(f?)\"([^\"]*)\"")
NO_SQL_NAME: Final = re.compile(r"--(?! name:)[^\n]*|'(?:[^']|'')*'")

FILES: Final = [
    path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*"))
    if path.suffix in (".py", ".sql")
]


def names_of(path: Path) -> Iterator[str]:
    """Identifiers of a file, names of statements and of log events included."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sql":
        yield from NAME.findall(NO_SQL_NAME.sub("", text))
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.string
    yield from (event for _, event in LOG_CALL.findall(text))


def is_replaced(name: str) -> bool:
    """Whether a name has a part or a form that the glossary has replaced."""
    if name in KEPT:
        return False
    parts = [part.lower() for part in PART.findall(name)]
    return any(map(REPLACED.fullmatch, parts)) or bool(REPLACED_FORMS.search(name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_a_replaced_word(path: Path) -> None:
    assert sorted({name for name in names_of(path) if is_replaced(name)}) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_log_events_can_be_searched_for(path: Path) -> None:
    computed = [event for f, event in LOG_CALL.findall(path.read_text(encoding="utf-8")) if f]
    assert computed == []


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        ("held_rows", True),
        ("stored_rows", False),
        ("HeldItem", True),
        ("timestamp", False),
        ("RING_WITHIN_S", True),
        ("WAKE_TIMEOUT_S", False),
        ("putOff", False),
        ("is_put_off", True),
        ("ROWS_MAX", True),
        ("MAX_ROWS", False),
        ("webhook_check_at", False),
        ("silence_check_at", True),
        ("Claim", True),
        ("claim_item", False),
        ("deletion_flagged_at", False),
        ("flagged_rows", True),
    ],
)
def test_replaced_words_are_known_in_every_form(name: str, replaced: bool) -> None:
    assert is_replaced(name) == replaced
