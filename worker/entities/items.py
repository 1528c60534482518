"""Items: their columns; worker/sync/items.py reads, stores and tombstones them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.entities.declaration import Product
from worker.pluggy_api.known_fields import PRODUCT_NAMES
from worker.pluggy_api.values import boolean, inner, integer, moment, text

ROW_VERSION: Final = 2
CONNECTOR_COLUMNS: Final = ("connector_id", "connector_name", "connector_is_open_finance")


def item_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of pluggy.items from an item's JSON."""
    connector = inner(fields, "connector")
    products = fields.get("products")
    return {
        "connector_id": integer(connector.get("id")),
        "connector_name": text(connector.get("name")),
        "connector_is_open_finance": is_open_finance(fields),
        "status": text(fields.get("status")),
        "execution_status": text(fields.get("executionStatus")),
        "error_code": text(inner(fields, "error").get("code")),
        "client_user_id": text(fields.get("clientUserId")),
        "products": [text(p) for p in products] if isinstance(products, list) else None,
        "source_created_at": moment(fields.get("createdAt")),
        "source_updated_at": moment(fields.get("updatedAt")),
        "last_updated_at": moment(fields.get("lastUpdatedAt")),
        "next_auto_sync_at": moment(fields.get("nextAutoSyncAt")),
        "consent_expires_at": moment(fields.get("consentExpiresAt")),
        "has_resources_pending_authorization": boolean(
            fields.get("hasResourcesPendingAuthorization")
        ),
    }


def is_open_finance(fields: Mapping[str, Any]) -> bool:
    """Whether an item's connector is regulated Open Finance: such items have consents."""
    return inner(fields, "connector").get("isOpenFinance") is True


DETAIL: Final = "{isUpdated lastUpdatedAt warnings{code message providerMessage}}"
KNOWN_FIELDS: Final = f"""
    id connector status=UPDATING|UPDATED|OUTDATED|LOGIN_ERROR|MERGING|WAITING_USER_INPUT
    |WAITING_USER_ACTION
    executionStatus=CREATING|CREATED|LOGIN_IN_PROGRESS|LOGIN_MFA_IN_PROGRESS
    |WAITING_USER_INPUT|WAITING_USER_ACTION|ACCOUNTS_IN_PROGRESS|CREDITCARDS_IN_PROGRESS
    |TRANSACTIONS_IN_PROGRESS|INVESTMENTS_IN_PROGRESS|INVESTMENTS_TRANSACTIONS_IN_PROGRESS
    |INVESTMENT_TRANSACTIONS_IN_PROGRESS|PAYMENT_DATA_IN_PROGRESS|IDENTITY_IN_PROGRESS
    |LOANS_IN_PROGRESS|ACCOUNT_STATEMENTS_IN_PROGRESS|MOVE_SECURITY_IN_PROGRESS|MERGING
    |SUCCESS|PARTIAL_SUCCESS|ERROR|MERGE_ERROR|CREATE_ERROR|INVALID_CREDENTIALS
    |INVALID_CREDENTIALS_MFA|ALREADY_LOGGED_IN|UNEXPECTED_ERROR|SITE_NOT_AVAILABLE
    |ACCOUNT_LOCKED|ACCOUNT_CREDENTIALS_RESET|ACCOUNT_NEEDS_ACTION|CONNECTION_ERROR
    |USER_AUTHORIZATION_PENDING|USER_AUTHORIZATION_NOT_GRANTED|USER_AUTHORIZATION_REVOKED
    |USER_NOT_SUPPORTED|USER_INPUT_TIMEOUT
    error{{code message providerMessage attributes}} parameter
    userAction{{instructions type=qr|authorize-access attributes expiresAt}}
    webhookUrl clientUserId oauthRedirectUri createdAt updatedAt lastUpdatedAt nextAutoSyncAt
    autoSyncDisabledAt
    statusDetail{{accounts{DETAIL} creditCards{DETAIL} transactions{DETAIL}
        investments{DETAIL} investmentsTransactions{DETAIL} investmentTransactions{DETAIL}
        identity{DETAIL} paymentData{DETAIL} loans{DETAIL} accountStatements{DETAIL}}}
    consecutiveFailedLoginAttempts consentExpiresAt {PRODUCT_NAMES}
    resourcesCollectedAt hasResourcesPendingAuthorization
"""

ENTITY: Final = Product(product="items", order=0, known_fields=KNOWN_FIELDS)
