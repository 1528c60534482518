"""Changes that a bank makes by itself between two collections."""

from simulator.clock import DAY_MS
from simulator.items.item import Item
from simulator.items.orders import Counts, Order

# Open Finance lets older days be read about once a week: corrections arrive then.
_DEEP_EVERY_MS = 7 * DAY_MS


def daily_order(item: Item, order: Order, *, rows_a_day: int, now_ms: int) -> Order:
    """Fill an order with the ordinary life since the last collection."""
    random, since_ms = item.random, item.last_updated or item.created
    days = (now_ms - since_ms) / DAY_MS
    order.calendar = True
    order.created = round(rows_a_day * days) + random.randrange(2)
    order.scheduled = int(random.random() < 0.2)
    order.deleted = int(random.random() < 0.1)
    if now_ms // _DEEP_EVERY_MS != since_ms // _DEEP_EVERY_MS:
        order.late, order.restated, order.updated = 2, 1, 2
    order.products = {
        "investments": Counts(updated=len(item.investments)),
        "investment_transactions": Counts(created=int(random.random() < 0.3)),
        "loans": Counts(updated=int(random.random() < days / 30)),
    }
    return order
