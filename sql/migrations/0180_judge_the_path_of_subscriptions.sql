-- A webhook that goes to WEBHOOK_URL is of no use where the receiver does not answer at that path.
ALTER TABLE pluggy_sync.subscriptions
    DROP CONSTRAINT subscriptions_state_check,
    ADD CONSTRAINT subscriptions_state_check CHECK (state IN (
        'ok', 'elsewhere', 'missing', 'disabled', 'wrong_secret', 'wrong_url', 'wrong_path', 'double'));
