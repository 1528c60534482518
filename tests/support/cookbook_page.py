"""`python -m tests.support.cookbook_page`: write docs/cookbook.md from sql/cookbook."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ops.cli.report import COOKBOOK, SECTIONS

PAGE: Final = Path(__file__).parents[2] / "docs" / "cookbook.md"
ORDER: Final = (
    *("spending_by_category", "cash_flow", "net_worth", "upcoming_bills", "balance_by_day"),
    *("largest_expenses", "recurring_payments", "spending_by_merchant", "bills_and_their_rows"),
    *("planned_payments", "investments_and_loans", "accounts_connected_twice"),
)


def render(introduction: str) -> str:
    """The page, in Markdown: what stands before its first query, and the queries."""
    sections = {name: section for section, name in SECTIONS.items()}
    parts = [introduction.rstrip("\n") + "\n"]
    for name in ORDER:
        sql = (COOKBOOK / f"{name}.sql").read_text(encoding="utf-8")
        shown = f"`pluggy-sync report {sections[name]}`\n\n" if name in sections else ""
        parts.append(f"## {name}\n\n{shown}```sql\n{sql}```\n")
    return "\n".join(parts)


def written() -> tuple[str, str]:
    """The page as it is, and as it has to be."""
    text = PAGE.read_text(encoding="utf-8")
    return text, render(text.partition("\n## ")[0])


if __name__ == "__main__":
    PAGE.write_text(written()[1], encoding="utf-8")
