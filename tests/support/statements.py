"""Every statement of the service as it is sent, by name."""

from __future__ import annotations

from typing import Final

from worker.infra.sql_files import QUERIES_DIR
from worker.store.statements import load

STATEMENTS: Final = {
    name: text
    for path in sorted(QUERIES_DIR.rglob("*.sql"))
    for name, text in load(str(path.relative_to(QUERIES_DIR))).items()
}
