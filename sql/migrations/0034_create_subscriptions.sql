-- What the last look at Pluggy's list of webhooks found. No URL and no header: both may hold a secret.
CREATE TABLE pluggy_sync.subscriptions (
    hook_id text,
    event text NOT NULL,
    host text,
    state text NOT NULL CHECK (state IN (
        'ok', 'elsewhere', 'missing', 'disabled', 'wrong_secret', 'wrong_url', 'double')),
    disabled_at timestamptz,
    since timestamptz NOT NULL
);
