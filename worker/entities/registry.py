"""All entities as their modules declare them, and what the layers above ask of them together."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from worker.entities.declaration import SCOPES_OF_ITEMS, SCOPES_WITHIN, Entity, Listing, Product
from worker.pluggy_api.known_fields import REFERENCE_DATA, Shape, parse_shape

OTHER_MODULES: Final = frozenset({"__init__", "declaration", "registry"})


def _declared() -> list[Product]:
    """The `ENTITY` of each module of this folder: a new file needs no entry anywhere."""
    names = {path.stem for path in Path(__file__).parent.glob("*.py")} - OTHER_MODULES
    found: list[Product] = [import_module(f"worker.entities.{name}").ENTITY for name in names]
    return sorted(found, key=lambda product: product.order)


PRODUCTS: Final[Mapping[str, Product]] = {product.product: product for product in _declared()}
ENTITIES: Final = {name: p for name, p in PRODUCTS.items() if isinstance(p, Entity)}
"""All but the items themselves, parents before what they own."""
OWNED_BY: Final = {
    owner: [p for p in ENTITIES.values() if p.scope in scopes]
    for owner, scopes in SCOPES_WITHIN.items()
}
"""The entities whose rows go with an account or an investment."""
LISTINGS: Final = {name: p for name, p in PRODUCTS.items() if isinstance(p, Listing)}
# The list of accounts is a step of its own, which others wait for.
LISTED_BY_ITEM: Final = [
    p for p in LISTINGS.values() if p.scope in SCOPES_OF_ITEMS and p.product != "accounts"
]
LISTED_BY_ACCOUNT: Final = [p for p in LISTINGS.values() if p.scope not in SCOPES_OF_ITEMS]
SHAPES: Final[Mapping[str, Shape]] = {
    name: parse_shape(spec)
    for name, spec in {
        **{name: product.known_fields for name, product in PRODUCTS.items()},
        **REFERENCE_DATA,
    }.items()
}
