"""Identities: the person or firm behind an item; one object, handled as a list of one or none."""

from __future__ import annotations

from typing import Final

from worker.entities.declaration import Listing
from worker.pluggy_api.values import mapper
from worker.store.entities import identities

identity_row: Final = mapper(
    text="full_name company_name document document_type tax_number job_title investor_profile",
    day="birth_date",
    moment="source_created_at=createdAt source_updated_at=updatedAt",
)
"""Columns of pluggy.identities from an identity's JSON."""


KNOWN_FIELDS: Final = """
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
"""

ENTITY: Final = Listing(
    product="identities",
    order=7,
    known_fields=KNOWN_FIELDS,
    path="/identity?itemId={owner}",
    row_path="/identity/{id}",
    owner_key="itemId",
    absent="404:IDENTITY_NOT_FOUND",
    is_single=True,
    status_keys=("identity",),
    rechecks_first=True,
    collected_as="IDENTITY",
    mapper=identity_row,
    version=1,
    load_versions=identities.load_identities_versions,
    upsert=identities.upsert_identities,
    load_live=identities.load_live_identities,
    tombstone=identities.tombstone_identities,
)
