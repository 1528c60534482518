"""Known fields and values of Pluggy's answers, for the detection of schema drift.

`{...}` holds the fields of an inner object, `=` is followed by the known values. An inner object
without braces and a field without `=` may hold anything.
Source: https://docs.pluggy.ai/reference. The loan examples there use Open Finance's own values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

import msgspec

PRODUCT_NAMES: Final = (
    "products=ACCOUNTS|CREDIT_CARDS|TRANSACTIONS|PAYMENT_DATA|INVESTMENTS|INVESTMENTS_TRANSACTIONS"
    "|IDENTITY|BROKERAGE_NOTE|MOVE_SECURITY|LOANS|ACCOUNT_STATEMENTS"
)

REFERENCE_DATA: Final = {
    "connectors": f"""
        id name institutionUrl imageUrl primaryColor country hasMFA oauth oauthUrl resetPasswordUrl
        type=PERSONAL_BANK|BUSINESS_BANK|INVESTMENT|INVOICE|TELECOMMUNICATION|DIGITAL_ECONOMY
        |PAYMENT_ACCOUNT|OTHER
        credentials{{name label type=text|password|number|image|select|ethaddress|hcaptcha mfa data
            assistiveText options validation validationMessage placeholder optional instructions
            expiresAt}}
        health{{status=ONLINE|OFFLINE|UNSTABLE stage=BETA details incidents}}
        isOpenFinance isSandbox supportsPaymentInitiation supportsScheduledPayments
        supportsSmartTransfers supportsBoletoManagement supportsAutomaticPix
        {PRODUCT_NAMES} productCoverage createdAt updatedAt
    """,
    "categories": "id description descriptionTranslated parentId parentDescription",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The known fields of an object, those of its inner objects, and known values."""

    names: frozenset[str]
    inner: tuple[tuple[str, Shape], ...]
    values: tuple[tuple[str, frozenset[str]], ...]


def parse_shape(spec: str) -> Shape:
    """Parse a spec as above. Raises ValueError."""
    if spec.count("{") != spec.count("}"):
        raise ValueError("a brace is missing")
    # A list of values may continue on the next line.
    return _parse(iter(re.findall(r"[{}]|[^\s{}]+", re.sub(r"\s*\|\s*", "|", spec))))


def strict_type(shape: Shape) -> type[msgspec.Struct]:
    """A type of msgspec that takes only objects in which everything is known."""
    inner = {name: strict_type(of) for name, of in shape.inner}
    known = {name: Literal[tuple(sorted(values))] for name, values in shape.values}
    names = {f"field_{n}": name for n, name in enumerate(sorted(shape.names))}
    fields: list[tuple[str, Any, Any]] = []
    for field, name in names.items():
        one = inner.get(name) or known.get(name)
        # `Any` would build objects that nobody looks at.
        fields.append((field, msgspec.Raw if one is None else one | list[one] | None, None))  # type: ignore[valid-type]
    return msgspec.defstruct("Known", fields, rename=names, forbid_unknown_fields=True, gc=False)


def narrow_type(shape: Shape) -> Any:
    """A type of msgspec for dicts of these fields; all others are skipped undecoded."""
    inner = {name: narrow_type(of) | None for name, of in shape.inner}
    return TypedDict("Narrow", {n: inner.get(n, Any) for n in shape.names}, total=False)  # type: ignore[operator]


def _parse(words: Iterator[str]) -> Shape:
    names: list[str] = []
    inner: list[tuple[str, Shape]] = []
    values: list[tuple[str, frozenset[str]]] = []
    for word in words:
        if word == "}":
            break
        if word == "{":
            inner.append((names[-1], _parse(words)))
            continue
        name, _, known = word.partition("=")
        names.append(name)
        if known:
            values.append((name, frozenset(known.split("|"))))
    if len(set(names)) != len(names):
        raise ValueError(f"a field stands twice among {names}")
    return Shape(frozenset(names), tuple(inner), tuple(values))
