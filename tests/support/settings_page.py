"""`python -m tests.support.settings_page`: write the table of docs/settings.md from the classes."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from ops.web.settings import OpsSettings
from webhook_receiver.settings import ReceiverSettings
from worker.infra.settings import PRODUCTS, DatabaseSettings, Environment, PluggySettings

PAGE: Final = Path(__file__).parents[2] / "docs" / "settings.md"
PROCESSES: Final[dict[str, type[Environment]]] = {
    "worker": PluggySettings,
    "receiver": ReceiverSettings,
    "ops": OpsSettings,
}
HEAD: Final = "| name | default | for | meaning |\n|---|---|---|---|\n"


def written() -> tuple[str, str]:
    """The page as it is, and as it has to be: what stands before the table is kept."""
    text = PAGE.read_text(encoding="utf-8")
    return text, text.partition("| name |")[0] + HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    meanings: dict[str, str] = {}
    for settings in PROCESSES.values():
        for owner in reversed(settings.__mro__):
            if issubclass(owner, DatabaseSettings):
                meanings |= _meanings(owner)
    for name in dict.fromkeys(n for s in PROCESSES.values() for n in s.model_fields):
        fields = {p: s.model_fields[name] for p, s in PROCESSES.items() if name in s.model_fields}
        processes = "all" if fields.keys() == PROCESSES.keys() else ", ".join(fields)
        yield f"| `{name.upper()}` | {_default(fields)} | {processes} | {meanings[name]} |\n"


def _meanings(settings: type[DatabaseSettings]) -> dict[str, str]:
    """What the docstrings below the fields of a class say; read from its source."""
    [of_class] = ast.parse(inspect.getsource(settings)).body
    assert isinstance(of_class, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(of_class.body, of_class.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            said = ast.literal_eval(text.value)  # type: ignore[attr-defined]
            found[field.target.id] = " ".join(str(said).split()).removesuffix(".")
    return found


def _default(fields: dict[str, FieldInfo]) -> str:
    needed = [process for process, field in fields.items() if field.is_required()]
    if needed:
        return "none, needed" + (f" by {', '.join(needed)}" if len(needed) < len(fields) else "")
    default = next(iter(fields.values())).default
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    if value == PRODUCTS:
        return "all"
    return f"`{value}`" if value or value == 0 else "none"


if __name__ == "__main__":
    PAGE.write_text(written()[1], encoding="utf-8")
