"""Known fields and values of Pluggy's answers, for the detection of schema drift.

`{...}` holds the fields of an inner object, `=` is followed by the known values. An inner object
without braces and a field without `=` may hold anything.
Source: https://docs.pluggy.ai/reference. The loan examples there use Open Finance's own values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_PRODUCTS: Final = (
    "products=ACCOUNTS|CREDIT_CARDS|TRANSACTIONS|PAYMENT_DATA|INVESTMENTS|INVESTMENTS_TRANSACTIONS"
    "|IDENTITY|BROKERAGE_NOTE|MOVE_SECURITY|LOANS|ACCOUNT_STATEMENTS"
)
_DETAIL: Final = "{isUpdated lastUpdatedAt warnings{code message providerMessage}}"
_PARTY: Final = (
    "{name accountNumber branchNumber routingNumber routingNumberISPB"
    " documentNumber{type=CPF|CNPJ value}}"
)

SPECS: Final = {
    "items": f"""
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
        statusDetail{{accounts{_DETAIL} creditCards{_DETAIL} transactions{_DETAIL}
            investments{_DETAIL} investmentsTransactions{_DETAIL} investmentTransactions{_DETAIL}
            identity{_DETAIL} paymentData{_DETAIL} loans{_DETAIL} accountStatements{_DETAIL}}}
        consecutiveFailedLoginAttempts consentExpiresAt {_PRODUCTS}
        resourcesCollectedAt hasResourcesPendingAuthorization
    """,
    "accounts": """
        id itemId type=BANK|CREDIT subtype=CHECKING_ACCOUNT|SAVINGS_ACCOUNT|CREDIT_CARD number name
        marketingName balance taxNumber owner currencyCode createdAt updatedAt
        bankData{transferNumber closingBalance automaticallyInvestedBalance
            overdraftContractedLimit overdraftUsedLimit unarrangedOverdraftAmount hasReservedBalance
            reservedBalances{name identification amounts availableAmounts{amount currencyCode
                remuneration{preFixedRate postFixedIndexerPercentage rateType indexer calculation
                    ratePeriodicity indexerAdditionalInfo}}}}
        creditData{level brand brandAdditionalInfo balanceCloseDate balanceDueDate
            availableCreditLimit balanceForeignCurrency minimumPayment creditLimit isLimitFlexible
            status=ACTIVE|BLOCKED|CANCELLED holderType=MAIN|ADDITIONAL
            disaggregatedCreditLimits{creditLineLimitType consolidationType identificationNumber
                isLimitFlexible usedAmount usedAmountCurrencyCode lineName lineNameAdditionalInfo
                limitAmount limitAmountCurrencyCode limitAmountReason customizedLimitAmount
                customizedLimitAmountCurrencyCode availableAmount availableAmountCurrencyCode}
            additionalCards{number}}
    """,
    "transactions": f"""
        id accountId description descriptionRaw currencyCode amount amountInAccountCurrency date
        type=DEBIT|CREDIT status=POSTED|PENDING balance category categoryId providerCode providerId
        operationType operationTypeAdditionalInfo order createdAt updatedAt
        paymentData{{payer{_PARTY} receiver{_PARTY} reason referenceNumber receiverReferenceId
            paymentMethod authenticationCode
            boletoMetadata{{digitableLine barcode baseAmount interestAmount penaltyAmount
                discountAmount}}}}
        creditCardMetadata{{installmentNumber totalInstallments totalAmount payeeMCC purchaseDate
            billId cardNumber
            feeType=ANNUAL_FEE|ATM_WITHDRAWAL_DOMESTIC|ATM_WITHDRAWAL_INTERNATIONAL
            |EMERGENCY_CREDIT_EVALUATION|CARD_REISSUE|BILL_PAYMENT_FEE|SMS|OTHER
            feeTypeAdditionalInfo otherCreditsType=REVOLVING_CREDIT|BILL_INSTALLMENT|LOAN|OTHER
            otherCreditsAdditionalInfo billForecastDate billPostDate transactionDateTime
            paymentType=SINGLE|INSTALLMENT}}
        merchant{{name businessName cnpj cnae category}}
    """,
    "investments": """
        id itemId type=COE|EQUITY|ETF|FIXED_INCOME|MUTUAL_FUND|SECURITY|OTHER
        subtype=STRUCTURED_NOTE|STOCK|ETF|REAL_ESTATE_FUND|BDR|DERIVATIVES|OPTION|TREASURY|LCI|LCA
        |LF|CDB|CRI|CRA|CORPORATE_DEBT|LC|DEBENTURES|INVESTMENT_FUND|MULTIMARKET_FUND
        |FIXED_INCOME_FUND|STOCK_FUND|ETF_FUND|OFFSHORE_FUND|FIP_FUND|EXCHANGE_FUND|FI_INFRA|FI_AGRO
        |RETIREMENT|OTHER
        status=ACTIVE|PENDING|TOTAL_WITHDRAWAL number name code isin balance value quantity amount
        amountProfit amountWithdrawal amountOriginal taxes taxes2 currencyCode date owner dueDate
        issueDate purchaseDate gracePeriodDate issuer issuerCNPJ rate rateType ratePeriodicity
        fixedAnnualRate lastMonthRate lastTwelveMonthsRate annualRate taxExempt
        indexerAdditionalInfo priceFactor debtor{name} providerId createdAt updatedAt transactions
        couponPayment{hasCoupon periodicity additionalInfo} institution{name number}
        metadata{taxRegime proposalNumber processNumber fundName insurer{name cnpj} anbimaClass
            anbimaSubclass anbimaCategory}
    """,
    "investment_transactions": """
        id investmentId type=BUY|SELL|TAX|TRANSFER|INTEREST|AMORTIZATION movementType=CREDIT|DEBIT
        description quantity value amount netAmount agreedRate indexerPercentage priceFactor date
        tradeDate brokerageNumber createdAt updatedAt
        expenses{serviceTax brokerageFee incomeTax tradingAssetsNoticeFee maintenanceFee
            settlementFee clearingFee stockExchangeFee custodyFee operatingFee other iof
            iofProvision}
    """,
    "loans": """
        id itemId contractNumber ipocCode productName type providerId createdAt updatedAt
        kind=LOAN|FINANCING|INVOICE_FINANCING|UNARRANGED_ACCOUNT_OVERDRAFT date contractDate
        disbursementDates settlementDate contractAmount currencyCode dueDate
        installmentPeriodicity=WITHOUT_REGULAR_PERIODICITY|WEEKLY|FORTNIGHTLY|MONTHLY|BIMONTHLY
        |QUARTERLY|SEMESTERLY|YEARLY|OTHERS
        installmentPeriodicityAdditionalInfo firstInstallmentDueDate CET
        amortizationScheduled=SAC|PRICE|SAM|WITHOUT_AMORTIZATION_SYSTEM|OTHERS
        amortizationScheduledAdditionalInfo cnpjConsignee
        interestRates{taxType=NOMINAL|EFFECTIVE|EFETIVA
            interestRateType=SIMPLE|COMPOUND|SIMPLES|COMPOSTO
            taxPeriodicity=MONTHLY|YEARLY|AM|AA calculation referentialRateIndexerType
            referentialRateIndexerSubType referentialRateIndexerAdditionalInfo preFixedRate
            postFixedRate additionalInfo}
        contractedFees{name code chargeType=UNIQUE|BY_INSTALLMENT|UNICA|POR_PARCELA
            charge=MINIMUM|MAXIMUM|FIXED|PERCENTAGE|MINIMO|MAXIMO|FIXO|PERCENTUAL amount rate}
        contractedFinanceCharges{type additionalInfo rate chargeAdditionalInfo chargeRate}
        warranties{currencyCode type subtype amount}
        installments{typeNumberOfInstallments=DAY|WEEK|MONTH|YEAR|WITHOUT_TOTAL_PERIOD
            |DIA|SEMANA|MES|ANO|SEM_PRAZO_TOTAL totalNumberOfInstallments
            typeContractRemaining=DAY|WEEK|MONTH|YEAR|WITHOUT_TOTAL_PERIOD|WITHOUT_REMAINING_PERIOD
            |DIA|SEMANA|MES|ANO|SEM_PRAZO_TOTAL|SEM_PRAZO_REMANESCENTE
            contractRemainingNumber paidInstallments dueInstallments pastDueInstallments
            balloonPayments{dueDate amount{value currencyCode}}}
        payments{contractOutstandingBalance releases{isOverParcelPayment installmentId paidDate
            currencyCode paidAmount overParcel{fees{name code amount}
                charges{type additionalInfo amount}}}}
    """,
    "identities": """
        id itemId fullName socialName companyName document documentType taxNumber birthDate jobTitle
        sex=FEMALE|MALE|OTHER establishmentCode establishmentName incorporationDate companiesCnpj
        investorProfile=Conservative|Moderate|Aggressive createdAt updatedAt
        phoneNumbers{type=Personal|Work|Residencial value countryCallingCode areaCode extension
            additionalInfo}
        emails{type=Personal|Work value}
        addresses{fullAddress primaryAddress city postalCode state country type=Personal|Work
            additionalInfo district ibgeTownCode countryCode
            geographicCoordinates{latitude longitude}}
        relations{type=Mother|Father|Spouse name document}
        qualifications{companyCnpj occupationCode=RECEITA_FEDERAL|CBO|OUTRO occupationDescription
            informedIncome{frequency amount date} informedPatrimony{amount year date}
            economicActivities{code isMain}
            informedRevenue{amount frequency frequencyAdditionalInfo year}}
        financialRelationships{startDate productsServicesType productsServicesTypeAdditionalInfo
            procurators{type=REPRESENTANTE_LEGAL|PROCURADOR cpfNumber documentNumber
                documentType=CPF|CNPJ civilName socialName}
            accounts{compeCode branchCode number checkDigit type subtype}
            portabilitiesReceived{employerName employerDocument paycheckBankDetainerCnpj
                paycheckBankDetainerIspb portabilityApprovalDate}
            paychecksBankLink{employerName employerDocument paycheckBankCnpj paycheckBankIspb
                accountOpeningDate}}
        maritalStatus{code=SINGLE|MARRIED|WIDOWED|JUDICIALLY_SEPARATED|DIVORCED|STABLE_UNION|OTHER
            additionalInfo}
        nationality{hasBrazilianNationality otherNationalities{countryCode documents{type number
            country issueDate expirationDate additionalInfo}}}
        otherDocuments{type=CNH|RG|NIF|RNE|OTHER typeAdditionalInfo number checkDigit additionalInfo
            expirationDate}
        passport{number country issueDate expirationDate}
        parties{type=PARTNER|ADMINISTRATOR personType=NATURAL_PERSON|LEGAL_ENTITY
            documentType=CPF|CNPJ|PASSPORT|OTHER_TRAVEL_DOCUMENT documentNumber documentCountry
            documentExpirationDate documentIssueDate documentAdditionalInfo civilName socialName
            companyName tradeName startDate shareholding}
        businessOtherDocuments{type number country expirationDate}
    """,
    "bills": """
        id accountId dueDate billClosingDate totalAmount totalAmountCurrencyCode
        minimumPaymentAmount allowsInstallments createdAt updatedAt
        financeCharges{id type=LATE_PAYMENT_REMUNERATIVE_INTEREST|LATE_PAYMENT_FEE
            |LATE_PAYMENT_INTEREST|IOF|OTHER amount currencyCode additionalInfo}
        payments{id valueType=INSTALLMENT_PAYMENT|FULL_PAYMENT|OTHER_PAYMENT paymentDate
            paymentMode=DEBIT_ACCOUNT|BANK_SLIP|PAYROLL_DEDUCTION|PIX amount currencyCode}
    """,
    "consents": f"""
        id itemId {_PRODUCTS} createdAt updatedAt expiresAt revokedAt
        openFinancePermissionsGranted=REGISTRATION_ALL|REGISTRATION_IDENTIFICATIONS
        |REGISTRATION_QUALIFICATIONS|REGISTRATION_FINANCIAL_RELATIONS|ACCOUNTS_ALL|ACCOUNTS_LIST
        |ACCOUNTS_BALANCES|ACCOUNTS_LIMITS|ACCOUNTS_TRANSACTIONS|CREDIT_CARDS_ALL|CREDIT_CARDS_LIST
        |CREDIT_CARDS_LIMITS|CREDIT_CARDS_TRANSACTIONS|CREDIT_CARDS_BILLS|CREDIT_OPERATIONS_ALL
        |INVESTMENTS_ALL|EXCHANGES_ALL
    """,
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
        {_PRODUCTS} productCoverage createdAt updatedAt
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


SHAPES: Final[Mapping[str, Shape]] = {entity: parse_shape(spec) for entity, spec in SPECS.items()}
