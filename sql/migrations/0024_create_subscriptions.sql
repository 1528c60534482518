-- Pluggy's list of webhooks as it was last read. Neither URL nor headers: both may hold a secret.
CREATE TABLE pluggy_sync.subscriptions (
    hook_id text,
    event text NOT NULL,
    host text,
    state text NOT NULL CHECK (state IN (
        'ok', 'elsewhere', 'missing', 'disabled', 'wrong_secret', 'wrong_url', 'wrong_path', 'double')),
    disabled_at timestamptz,
    since timestamptz NOT NULL
);

COMMENT ON TABLE pluggy_sync.subscriptions IS
    'Webhooks as Pluggy lists them, and what is wrong with each';
COMMENT ON COLUMN pluggy_sync.subscriptions.hook_id IS 'Pluggy''s id; null: the webhook is missing';
COMMENT ON COLUMN pluggy_sync.subscriptions.state IS
    'elsewhere: it goes to another host. wrong_path: the receiver does not answer at the path of WEBHOOK_URL';
