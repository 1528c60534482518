-- A read of an account begins anew when its cursor is refused, but not for ever.
ALTER TABLE pluggy_sync.account_walks ADD COLUMN restarts integer NOT NULL DEFAULT 0;

COMMENT ON COLUMN pluggy_sync.account_walks.restarts IS
    'how often it has begun anew because of its cursor since it was asked for';
