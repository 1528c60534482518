-- Keys of statusDetail by product, as the modules of worker/entities/ have them. The migration that creates
-- the table of a product adds its keys.
CREATE TABLE pluggy_sync.status_keys (
    product text NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (product, key)
);
COMMENT ON TABLE pluggy_sync.status_keys IS
    'Under which keys Pluggy''s statusDetail tells of a product; pluggy_ops.freshness reads them';
INSERT INTO pluggy_sync.status_keys (product, key) VALUES
    ('accounts', 'accounts'), ('accounts', 'creditCards'), ('bills', 'creditCards'),
    ('transactions', 'transactions'), ('investments', 'investments'),
    ('investment_transactions', 'investmentsTransactions'),
    ('investment_transactions', 'investmentTransactions'), ('loans', 'loans'),
    ('identities', 'identity');
