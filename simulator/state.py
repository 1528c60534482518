"""The state of one running simulator, wired once."""

from random import Random

from aiohttp import web

from simulator.clock import Clock
from simulator.faults.faults import Faults
from simulator.http.keys import Keys
from simulator.http.limits import Limits
from simulator.http.requests import RequestLog
from simulator.items.item import Item
from simulator.items.lifecycle import Lifecycle
from simulator.items.paging import Paging, Pagings
from simulator.options import Options
from simulator.webhooks.delivery import Delivery
from simulator.webhooks.events import Event, Links
from simulator.webhooks.hooks import Hooks
from simulator.world import World


class Simulator:
    """The parts of a simulator, and the actions that need several of them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.base_url = "http://127.0.0.1"
        self.clock = Clock(scale=options.clock_scale, start_ms=options.clock_start_ms)
        self.keys = Keys(self.clock, options)
        self._begin()

    def _begin(self) -> None:
        options = self.options
        self.world = World(seed=options.seed, clock=self.clock)
        self.hooks = Hooks(
            self.clock,
            Random(f"hooks:{options.seed}"),
            allow_loopback=not options.public_webhook_urls_only,
        )
        self.delivery = Delivery(self.clock, self.hooks, options)
        self.limits = Limits(self.clock, options.rate_limit)
        self.faults = Faults(options.seed)
        self.requests = RequestLog(self.clock, options.seed)
        self.lists = Pagings(Paging("cursor" if options.cursor_lists else "page"))
        self.lifecycle = Lifecycle(self.world, options, self.emit)

    async def reset(self) -> None:
        """As just started, but for the clock and the keys given out. No webhook is emitted."""
        await self.clock.drop_timers()
        await self.delivery.close()
        self._begin()
        await self.delivery.open()
        self.listen_at(self.base_url)

    def listen_at(self, base_url: str) -> None:
        self.base_url = base_url
        self.lifecycle.links = Links(base_url, legacy=self.options.legacy_transactions)
        if self.options.webhook_url:
            headers = {}
            if self.options.webhook_secret:
                headers[self.options.webhook_secret_header] = self.options.webhook_secret
            self.hooks.add("all", self.options.webhook_url, headers)

    def emit(self, item: Item, events: list[Event]) -> None:
        """Deliver events to every subscription and to the item's own URL."""
        for event in events:
            self.delivery.emit(event, item_url=item.webhook_url)


STATE = web.AppKey("state", Simulator)


def state_of(request: web.Request) -> Simulator:
    return request.app[STATE]
