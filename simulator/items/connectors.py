"""The institutions that can be connected: sandbox ones, MeuPluggy, and a few real names."""

from typing import Any

MEU_PLUGGY = 200
MFA_CONNECTOR = 1
SITE = "https://pluggy.example"
_MADE_AT = "2021-03-01T12:00:00.000Z"

PRODUCTS = (
    "ACCOUNTS",
    "CREDIT_CARDS",
    "TRANSACTIONS",
    "PAYMENT_DATA",
    "INVESTMENTS",
    "INVESTMENTS_TRANSACTIONS",
    "IDENTITY",
    "LOANS",
)


def _credential(name: str, label: str, kind: str, *, mfa: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": kind,
        "placeholder": "",
        "validation": None,
        "validationMessage": None,
        "mfa": mfa,
        "optional": False,
        "assistiveText": "",
    }


_LOGIN = [_credential("user", "Usuário", "text"), _credential("password", "Senha", "password")]
_CPF = [_credential("cpf", "CPF", "text")]


def _connector(
    connector_id: int,
    name: str,
    *,
    color: str = "ef294b",
    kind: str = "PERSONAL_BANK",
    sandbox: bool = False,
    open_finance: bool = False,
    mfa: bool = False,
) -> dict[str, Any]:
    credentials = [*(_CPF if open_finance and not sandbox else _LOGIN)]
    if mfa:
        credentials.append(_credential("token", "Token", "number", mfa=True))
    return {
        "id": connector_id,
        "name": name,
        "institutionUrl": f"{SITE}/{connector_id}",
        "imageUrl": f"{SITE}/{connector_id}.svg",
        "primaryColor": color,
        "type": kind,
        "country": "BR",
        "credentials": credentials,
        "hasMFA": mfa,
        "oauth": open_finance,
        "oauthUrl": None,
        "resetPasswordUrl": None,
        "health": {"status": "ONLINE", "stage": None},
        "isOpenFinance": open_finance,
        "isSandbox": sandbox,
        "supportsPaymentInitiation": False,
        "supportsScheduledPayments": False,
        "supportsSmartTransfers": False,
        "supportsBoletoManagement": False,
        "supportsAutomaticPix": False,
        "products": list(PRODUCTS),
        "createdAt": _MADE_AT,
        "updatedAt": _MADE_AT,
    }


def connectors() -> dict[int, dict[str, Any]]:
    """A new list each time, for a world may change the health of each."""
    made = [
        _connector(0, "Pluggy Bank", sandbox=True),
        _connector(MFA_CONNECTOR, "Pluggy Bank 2FA", sandbox=True, mfa=True),
        _connector(2, "Pluggy Bank", sandbox=True),
        _connector(5, "Pluggy Bank Business", kind="BUSINESS_BANK", sandbox=True),
        # The banks behind it are Open Finance; the connector itself is not, and asks for nothing.
        _connector(MEU_PLUGGY, "MeuPluggy") | {"credentials": [], "oauth": True},
        _connector(201, "Itaú", color="ec7000"),
        _connector(203, "Bradesco", color="cc092f"),
        _connector(211, "Banco do Brasil", color="fcfc30"),
        _connector(600, "Pluggy Open Finance", sandbox=True, open_finance=True),
        _connector(601, "Itaú", color="ec7000", open_finance=True),
        _connector(603, "Bradesco", color="cc092f", open_finance=True),
        _connector(612, "Nubank", color="820ad1", open_finance=True),
    ]
    return {connector["id"]: connector for connector in made}
