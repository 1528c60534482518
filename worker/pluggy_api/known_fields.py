"""Known fields and values of Pluggy's answers, for the detection of schema drift.

`{...}` holds the fields of an inner object, `=` is followed by the known values. An inner object
without braces and a field without `=` may hold anything.
Source: https://docs.pluggy.ai/reference. The loan examples there use Open Finance's own values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from worker.pluggy_api.values import Fields, fields_within

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


def strict_type(shape: Shape, mapped: type[Fields] = Fields) -> type[Fields]:
    """A subclass of mapped that takes only objects in which everything is known.

    A known field that is not among those of mapped may be a list too, if it has a type at all.
    """
    read = {field.encode_name: field for field in msgspec.structs.fields(mapped)}
    inner, known = dict(shape.inner), dict(shape.values)
    fields: list[tuple[str, Any, Any]] = []
    for name in sorted(shape.names):
        field: Any = read.get(name)
        one: Any = None
        if name in inner:
            one = strict_type(inner[name], (field and fields_within(field.type)) or Fields)
        elif name in known:
            one = Literal[tuple(sorted(known[name]))]
        if field is None:
            fields.append((name, Any if one is None else one | list[one] | None, None))
        elif one is not None:
            fields.append((field.name, one | None, None))
    return msgspec.defstruct("Known", fields, bases=(mapped,), forbid_unknown_fields=True)  # type: ignore[return-value]


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
