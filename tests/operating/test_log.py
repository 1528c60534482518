"""The log: its lines, and what they never contain."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
from pydantic import SecretStr
import structlog
from worker.infra.log import configure

configure(sys.argv[1], sys.argv[2])
log = structlog.get_logger()

def fail():
    hunter2 = "a-secret-in-a-local-variable"
    raise RuntimeError("the reason")

with structlog.contextvars.bound_contextvars(item_id="an-item"):
    log.debug("debugged")
    log.info("things_happened", rows=3, secret=SecretStr("a-secret-value"), raw=b"\\xff")
    try:
        fail()
    except RuntimeError:
        log.exception("thing_failed")
        logging.getLogger("some.library").exception("library %s", "failed")
    logging.getLogger("arq.worker").info("a line a job")
    logging.getLogger("aiohttp.access").info("GET /webhooks/pluggy/a-secret-in-a-path")
    logging.getLogger("arq.worker").warning("a warning")
"""


def lines(level: str, log_format: str) -> list[str]:
    """What a program writes; a warning of Python's would end it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, level, log_format],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_line_of_json_is_an_event_with_its_facts() -> None:
    events = [json.loads(line) for line in lines("INFO", "json")]
    assert [event["event"] for event in events] == [
        "things_happened",
        "thing_failed",
        "library failed",
        "a warning",
    ]
    assert [event["level"] for event in events] == ["info", "error", "error", "warning"]
    assert all(event["item_id"] == "an-item" for event in events)
    assert all(event["timestamp"].endswith("Z") for event in events)
    assert events[0]["rows"] == 3
    assert "RuntimeError: the reason" in events[1]["exception"]
    assert "RuntimeError: the reason" in events[2]["exception"]


def test_levels_are_kept() -> None:
    assert len(lines("WARNING", "json")) == 3
    assert len(lines("DEBUG", "json")) == 5


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_show_no_values_and_secrets_no_letters(log_format: str) -> None:
    shown = "\n".join(lines("DEBUG", log_format))
    assert shown.count("RuntimeError: the reason") == 2
    assert "things_happened" in shown
    assert "\x1b[" not in shown, "NO_COLOR is obeyed"
    assert "a-secret" not in shown.replace('hunter2 = "a-secret-in-a-local-variable"', "")


COMMAND = """
import contextlib, sys
sys.argv = ["pluggy-sync", "--version"]
from ops.__main__ import run
with contextlib.suppress(SystemExit):
    run()
from worker.infra.lazy_log import LazyLog
LazyLog().warning("postgres_away")
"""


def test_a_command_logs_beside_its_answer() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], capture_output=True, text=True, check=True
    )
    assert "pluggy-sync" in done.stdout
    assert "postgres_away" in done.stderr
    assert "postgres_away" not in done.stdout
