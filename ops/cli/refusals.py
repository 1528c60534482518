"""Refusals of Pluggy in a person's words, each with what to do next.

https://docs.pluggy.ai/reference/items-update names the codes and the fields beside them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, timedelta
from typing import Any, Final

from ops.cli.pluggy import UNKNOWN_TO_PLUGGY
from worker.infra.parsing import parse_time
from worker.pluggy_api.errors import ITEM_NOT_FOUND, PluggyError, PluggyRejected, classify

RECONNECT: Final = "the person has to connect again: pluggy-sync connect-token --item {item}"
UNDER_WAY: Final = (
    "a collection is under way; see it end with: pluggy-sync items show {item} --wait"
)
REFUSALS: Final = {
    "400:ITEM_IS_ALREADY_UPDATING": UNDER_WAY,
    "400:ITEM_ALREADY_UPDATING": UNDER_WAY,
    "400:LAST_EXECUTION_HAD_LOGIN_ERROR": f"its last login failed; {RECONNECT}",
    "400:TOO_MANY_CONSECUTIVE_ERRORS": "more than five collections failed in a row: ask Pluggy's"
    " support, and name the item: {item}",
    "400:CONNECTOR_OFFLINE": "the bank's connector is offline: try again when it is ONLINE in:"
    " pluggy-sync connectors list",
    "400:CONNECTOR_REQUIRED_PARAMETER_VALIDATION_ERROR": f"the bank asks for more; {RECONNECT}",
    "400:MFA_PARAMERTER_WAS_ALREADY_USED_ERROR": f"its second factor is used up; {RECONNECT}",
    "400:SANDBOX_CLIENT_ITEM_UPDATE_NOT_ALLOWED": "an application on trial may not update items:"
    " ask Pluggy for a production application",
    "400:CLIENT_HAS_ITEM_UPDATES_DISABLED": "updates are switched off for this application: ask"
    " Pluggy's support",
    ITEM_NOT_FOUND: UNKNOWN_TO_PLUGGY,
}
MAX_HOURS: Final = 24 * 366
SHOWN: Final = "%Y-%m-%d %H:%MZ"
MEU_PLUGGY: Final = (
    "an item of MeuPluggy cannot be updated here: the person does it in meu.pluggy.ai, and its"
    " webhooks bring the changes"
)


def explain_refusal(error: PluggyError, item_id: uuid.UUID | None = None) -> str:
    """Why Pluggy does not do it, and what to do then. item_id: of the item that it is about."""
    code = classify(error).code
    if error.status is None:
        return f"Pluggy does not answer at PLUGGY_BASE_URL as it should ({code})"
    answer = error.answer if isinstance(error, PluggyRejected) else {}
    if known := _by_answer(code, answer) or REFUSALS.get(code):
        return f"{known.format(item=item_id or 'ID')} ({code})"
    return f"Pluggy has answered {code}" + (f", request {error.error_id}" if error.error_id else "")


def _by_answer(code: str, answer: Mapping[str, Any]) -> str | None:
    """The text for a refusal that is told by more than its code."""
    if code == "400:no_code" and "meupluggy" in str(answer.get("message")).lower():
        return MEU_PLUGGY
    data = answer.get("data")
    explain = WITH_TIMES.get(code)
    return explain(data if isinstance(data, dict) else {}) if explain else None


def _too_early(data: Mapping[str, Any]) -> str:
    """After the pause that Pluggy asks for, 24 hours for new applications, or less."""
    text = "the pause that Pluggy asks for between two updates has not passed"
    hours, last = (
        data.get("minUpdateFrequencyAllowedInHours"),
        parse_time(data.get("lastUpdatedAt")),
    )
    if isinstance(hours, int) and 0 < hours <= MAX_HOURS:
        text = f"Pluggy takes an update of an item every {hours} hours at most"
        if last is not None and last.year < MAXYEAR:
            again = last + timedelta(hours=hours)
            text += f"; it was collected at {last:{SHOWN}}: ask again from {again:{SHOWN}} on"
    return f"{text}; when Pluggy collects it by itself stands in: pluggy-sync items show {{item}}"


def _too_many_logins(data: Mapping[str, Any]) -> str:
    again = parse_time(data.get("canRetryAfterDate"))
    when = f"from {again:{SHOWN}} on " if again else ""
    return f"too many logins have failed; {when}{RECONNECT}"


WITH_TIMES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "409:CLIENT_IS_UPDATING_BEFORE_ALLOWED_FREQUENCY": _too_early,
    "400:TOO_MANY_CONSECUTIVE_LOGIN_FAILURES": _too_many_logins,
}
