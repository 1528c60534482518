"""`python -m webhook_receiver` with time-outs that are longer than any test holds it up."""

from functools import partial

from tests.support.receiver import PATIENCE_S
from webhook_receiver import __main__ as receiver
from webhook_receiver.app import ReceiverServices
from webhook_receiver.storage import Stores

vars(receiver).update(
    Stores=partial(Stores, postgres_timeout_s=PATIENCE_S),
    ReceiverServices=partial(ReceiverServices, answer_timeout_s=PATIENCE_S),
)

if __name__ == "__main__":
    receiver.main()
