-- Bank accounts and credit cards.
CREATE TABLE pluggy.accounts (
    item_id uuid NOT NULL,
    id uuid NOT NULL,
    type text,
    subtype text,
    number text,
    name text,
    marketing_name text,
    owner text,
    tax_number text,
    currency_code text,
    balance numeric,
    bank_transfer_number text,
    bank_closing_balance numeric,
    credit_level text,
    credit_brand text,
    credit_limit numeric,
    credit_available_limit numeric,
    credit_minimum_payment numeric,
    credit_balance_close_date date,
    credit_balance_due_date date,
    credit_status text,
    source_created_at timestamptz,
    source_updated_at timestamptz,
    payload jsonb NOT NULL,
    row_hash bytea NOT NULL,
    row_version smallint NOT NULL,
    run_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    deletion_flagged_at timestamptz,
    deletion_flag text,
    deletion_refused_at timestamptz,
    PRIMARY KEY (item_id, id)
) WITH (fillfactor = 85);

COMMENT ON TABLE pluggy.accounts IS 'Bank accounts and credit cards of an item';
COMMENT ON COLUMN pluggy.accounts.deletion_flagged_at IS
    'When Pluggy stopped listing the account; it stays until a person accepts the deletion. Null: listed';
COMMENT ON COLUMN pluggy.accounts.deletion_flag IS
    'Why the deletion waits for a person; null: none waits';
COMMENT ON COLUMN pluggy.accounts.deletion_refused_at IS
    'When a person decided that the account stays; null: nobody did, or Pluggy has listed it again since';

CREATE INDEX accounts_run ON pluggy.accounts (run_id);
CREATE INDEX accounts_deletions ON pluggy.accounts (item_id) WHERE deletion_flagged_at IS NOT NULL;
-- By these an account is found again under a new connection.
CREATE INDEX accounts_last_digits ON pluggy.accounts (right(regexp_replace(number, '\D', '', 'g'), 4), type)
    WHERE deleted_at IS NULL;
