-- collected_at is the bank's side (Pluggy's last collection of the product), read_collected_at what of
-- that our last complete read covers. Incomplete: usable, but something of it is missing.
CREATE VIEW pluggy_ops.freshness AS
SELECT p.item_id, i.connector_id, i.connector_name, p.product,
       nullif(p.scope_id, '00000000-0000-0000-0000-000000000000') AS scope_id,
       i.status AS item_status, i.execution_status,
       coalesce(d.collected_at, i.last_updated_at) AS collected_at,
       p.source_updated_at AS read_collected_at, p.complete_read_at AS read_at, p.watermark,
       w.pages AS walk_pages, w.rows_seen AS walk_rows, coalesce(r.rejected_rows, 0) AS rejected_rows,
       p.attempts, p.next_try_at, p.error_id,
       CASE
           WHEN i.deleted_at IS NOT NULL THEN 'deleted'
           WHEN p.dead_at IS NOT NULL OR p.stale_reason IS NOT NULL THEN 'stale'
           WHEN p.parked_at IS NOT NULL OR i.waits_for_long THEN 'stale'
           WHEN p.complete_read_at IS NULL THEN CASE WHEN w.walk_id IS NULL THEN 'unread' ELSE 'walking' END
           WHEN i.consent_lost OR i.login_failed OR i.is_outdated THEN 'stale'
           WHEN i.no_auto_sync OR i.is_overdue OR d.not_collected THEN 'stale'
           WHEN r.rejected_rows > 0 OR p.incomplete_reason IS NOT NULL OR d.warned THEN 'incomplete'
           WHEN i.authorization_pending AND p.product IN ('accounts', 'investments', 'loans')
               THEN 'incomplete'
           ELSE 'fresh'
       END AS state,
       CASE
           WHEN i.ended_at IS NOT NULL THEN 'item_ended'
           WHEN i.deleted_at IS NOT NULL THEN 'item_deleted'
           WHEN i.consent_revoked THEN 'consent_revoked'
           WHEN i.consent_lost THEN 'consent_expired'
           WHEN p.parked_at IS NOT NULL THEN 'product_parked'
           WHEN p.stale_reason IS NOT NULL THEN p.stale_reason
           WHEN p.dead_at IS NOT NULL THEN p.failure_code
           WHEN i.login_failed THEN 'login_error'
           WHEN i.waits_for_long THEN lower(i.status)
           WHEN i.is_outdated THEN coalesce(lower(i.execution_status), 'outdated')
           WHEN i.no_auto_sync THEN 'no_auto_sync'
           WHEN i.is_overdue THEN 'collection_overdue'
           -- 423 by all products, the others by the newer codes of some.
           WHEN d.warning_codes && ARRAY['423', 'INV_004', 'TXN_003', 'TXN_006'] THEN 'monthly_quota'
           WHEN d.not_collected THEN 'not_collected'
           WHEN r.rejected_rows > 0 THEN 'rows_rejected'
           WHEN p.incomplete_reason IS NOT NULL THEN p.incomplete_reason
           -- An approval at the bank can add accounts, investments and loans, not rows of stored ones.
           WHEN i.authorization_pending AND p.product IN ('accounts', 'investments', 'loans')
               THEN 'authorization_pending'
           WHEN d.warning_codes = ARRAY['001'] THEN 'general_warning'
           WHEN d.warned THEN 'collected_with_warning'
           WHEN p.awaits_rows THEN 'confirming'
           WHEN c.things IS NULL THEN NULL
           WHEN c.things && ARRAY['items', p.product, p.product || '/' || p.scope_id] THEN 'confirming'
       END AS reason,
       CASE
           WHEN i.deleted_at IS NOT NULL THEN NULL
           WHEN i.consent_lost OR i.login_failed OR i.waits_for_user AND i.waits_for_long THEN 'user'
           WHEN p.stale_reason = 'empty_answer' OR i.is_outdated THEN 'bank'
           WHEN p.failure_class = 'retry' OR p.parked_at IS NOT NULL THEN 'pluggy'
           WHEN p.dead_at IS NOT NULL THEN 'us'
           WHEN i.waits_for_long THEN 'pluggy'
           WHEN i.no_auto_sync THEN 'user'
           WHEN i.is_overdue THEN 'pluggy'
           WHEN d.not_collected THEN 'bank'
           WHEN r.rejected_rows > 0 OR p.incomplete_reason IS NOT NULL THEN 'us'
           WHEN i.authorization_pending AND p.product IN ('accounts', 'investments', 'loans') THEN 'user'
           WHEN d.warned THEN 'bank'
       END AS blocked_on,
       coalesce(p.failing_since, p.deferred_since, p.parked_at, p.dead_at,
                -- If the bank or the user holds it up: since the last good collection.
                CASE WHEN i.login_failed OR i.is_outdated OR i.no_auto_sync OR i.consent_revoked
                          THEN i.last_updated_at
                     WHEN i.consent_lost THEN i.consent_expires_at
                     WHEN i.waits_for_long THEN i.status_since
                     WHEN i.is_overdue THEN i.next_auto_sync_at
                     WHEN d.not_collected THEN d.collected_at
                     ELSE r.rejected_since END) AS stale_since,
       p.verified_at, d.warning_codes
FROM pluggy_sync.product_sync p
-- Judged once for each item, not for each of its products: Postgres evaluates an expression below an outer
-- join if it is not strict, and IS TRUE makes it so.
LEFT JOIN (
    SELECT x.id, x.connector_id, x.connector_name, x.status, x.execution_status, x.last_updated_at,
           x.next_auto_sync_at, x.consent_expires_at, x.deleted_at, x.ended_at,
           (x.execution_status = 'USER_AUTHORIZATION_REVOKED') IS TRUE AS consent_revoked,
           x.execution_status = 'USER_AUTHORIZATION_REVOKED' OR x.consent_expires_at <= now()
               AS consent_lost,
           (x.status = 'LOGIN_ERROR') IS TRUE AS login_failed,
           (x.status = 'OUTDATED') IS TRUE AS is_outdated,
           (x.status IN ('WAITING_USER_INPUT', 'WAITING_USER_ACTION')) IS TRUE AS waits_for_user,
           -- Neither clock alone says when the item got its status: the row may be written again in the
           -- same status, and Pluggy's updatedAt may be older than our first read.
           least(x.changed_at, x.source_updated_at) AS status_since,
           -- A login waits for minutes and a collection takes at most hours.
           x.status IN ('WAITING_USER_INPUT', 'WAITING_USER_ACTION')
               AND least(x.changed_at, x.source_updated_at) < now() - interval '1 hour'
               OR x.status IN ('UPDATING', 'MERGING')
               AND least(x.changed_at, x.source_updated_at) < now() - interval '1 day' AS waits_for_long,
           -- Null and no collection under way: Pluggy does not update the item any more by itself. Of
           -- healthy items of MeuPluggy (200) it may be null too: they are collected daily.
           x.next_auto_sync_at IS NULL AND x.last_updated_at IS NOT NULL
               AND x.status NOT IN ('WAITING_USER_INPUT', 'WAITING_USER_ACTION', 'UPDATING', 'MERGING')
               AND (x.connector_id IS DISTINCT FROM 200
                    OR x.last_updated_at < now() - interval '3 days'
                    OR x.payload ->> 'autoSyncDisabledAt' IS NOT NULL) AS no_auto_sync,
           (x.next_auto_sync_at < now() - interval '1 day') IS TRUE AS is_overdue,
           x.has_resources_pending_authorization IS TRUE AS authorization_pending
    FROM pluggy.items x) AS i ON i.id = p.item_id
-- Pluggy sends statusDetail if a collection was partial: a product that could not be collected keeps its
-- older data, and their date. Only codes and dates are used: Pluggy's texts may be personal.
LEFT JOIN (
    SELECT x.id, k.product, bool_or(s.detail ->> 'isUpdated' = 'false') AS not_collected,
           bool_or(s.detail -> 'warnings' -> 0 IS NOT NULL) AS warned,
           array_agg(DISTINCT w.code ORDER BY w.code) FILTER (WHERE w.code IS NOT NULL)
               AS warning_codes,
           max(CASE WHEN s.detail ->> 'lastUpdatedAt'
                         ~ '^[12]\d{3}-(0[1-9]|1[0-2])-[0-3]\dT([01]\d|2[0-3])(:[0-5]\d){2}(\.\d+)?Z$'
                    -- By its day of the month, which may be none of it: a cast would fail the view.
                    THEN (left(s.detail ->> 'lastUpdatedAt', 8) || '01'
                          || substr(s.detail ->> 'lastUpdatedAt', 11))::timestamptz
                         + (substr(s.detail ->> 'lastUpdatedAt', 9, 2)::integer - 1)
                         * interval '24 hours' END) AS collected_at
    FROM pluggy.items x
    CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(x.payload -> 'statusDetail')
                                  WHEN 'object' THEN x.payload -> 'statusDetail' END) AS s(key, detail)
    JOIN pluggy_sync.status_keys AS k ON k.key = s.key
    LEFT JOIN LATERAL (
        SELECT CASE WHEN e.warning ->> 'code' ~ '^[A-Za-z0-9_.-]{1,40}$' THEN e.warning ->> 'code'
                    ELSE '?' END AS code
        FROM jsonb_array_elements(CASE jsonb_typeof(s.detail -> 'warnings')
                                  WHEN 'array' THEN s.detail -> 'warnings' END) AS e(warning)) AS w ON true
    WHERE x.payload -> 'statusDetail' <> 'null'
    GROUP BY x.id, k.product) AS d ON d.id = p.item_id AND d.product = p.product
LEFT JOIN (
    SELECT item_id, product, scope_id, count(*) AS rejected_rows, min(rejected_at) AS rejected_since
    FROM pluggy_sync.rejected_rows GROUP BY item_id, product, scope_id) AS r
    ON r.item_id = p.item_id AND r.product = p.product AND r.scope_id = p.scope_id
LEFT JOIN pluggy_sync.account_walks w
    ON w.item_id = p.item_id AND w.account_id = p.scope_id AND p.product = 'transactions'
-- Reads that are repeated because their answer contradicted an event.
LEFT JOIN (
    SELECT item_id, array_agg(confirming) AS things FROM pluggy_sync.webhook_events
    WHERE state IN ('pending', 'walking') AND confirming IS NOT NULL GROUP BY item_id) AS c
    ON c.item_id = p.item_id;

COMMENT ON VIEW pluggy_ops.freshness IS
    'One row per item, product and (for products of an account or investment) scope: its '
    'freshness, since when it is not fresh, the reason, and the party that has to act';
COMMENT ON COLUMN pluggy_ops.freshness.item_id IS
    'The item that it is about; null: no item, or several';
COMMENT ON COLUMN pluggy_ops.freshness.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.freshness.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.freshness.product IS
    'Our table name of what is read, such as transactions';
COMMENT ON COLUMN pluggy_ops.freshness.scope_id IS
    'The account or investment that the row is about; null: the whole item';
COMMENT ON COLUMN pluggy_ops.freshness.item_status IS
    'Pluggy''s status of the item; null: it is not stored';
COMMENT ON COLUMN pluggy_ops.freshness.execution_status IS
    'How its last collection ended; null: not known';
COMMENT ON COLUMN pluggy_ops.freshness.collected_at IS
    'When Pluggy last collected the product from the bank, UTC; null: never';
COMMENT ON COLUMN pluggy_ops.freshness.read_collected_at IS
    'Pluggy''s time of the collection that our last complete read covers, UTC; null: no complete '
    'read';
COMMENT ON COLUMN pluggy_ops.freshness.read_at IS
    'When our last complete read started, UTC; null: none';
COMMENT ON COLUMN pluggy_ops.freshness.watermark IS
    'Up to when transactions are read, by Pluggy''s clock, UTC; null: no complete read, or '
    'another product';
COMMENT ON COLUMN pluggy_ops.freshness.walk_pages IS
    'Pages that the walk under way has read; null: none is under way';
COMMENT ON COLUMN pluggy_ops.freshness.walk_rows IS
    'Rows that the walk under way has seen; null: none is under way';
COMMENT ON COLUMN pluggy_ops.freshness.rejected_rows IS
    'Rows that could not be read and were set aside';
COMMENT ON COLUMN pluggy_ops.freshness.attempts IS 'Failed tries in a row';
COMMENT ON COLUMN pluggy_ops.freshness.next_try_at IS
    'Time of the next try, UTC; null: no wait';
COMMENT ON COLUMN pluggy_ops.freshness.error_id IS
    'errorId of Pluggy, or the x-request-id of its answer where it gave none; its support asks '
    'for it; null: there was no answer';
COMMENT ON COLUMN pluggy_ops.freshness.state IS
    'fresh, stale, incomplete, unread (never read), walking (first read under way) or deleted';
COMMENT ON COLUMN pluggy_ops.freshness.reason IS
    'Why it is not fresh; null: it is, or is being read';
COMMENT ON COLUMN pluggy_ops.freshness.blocked_on IS
    'The party that has to act: us (the operators of this service), pluggy, bank or user; null: nobody';
COMMENT ON COLUMN pluggy_ops.freshness.stale_since IS
    'Since when it is not fresh, UTC; null: it is, or it is not known';
COMMENT ON COLUMN pluggy_ops.freshness.warning_codes IS
    'Codes of the warnings with which Pluggy collected the product last, as Pluggy sends them; ?: one '
    'that is no plain code; null: no warning';
COMMENT ON COLUMN pluggy_ops.freshness.verified_at IS
    'When the last read started that covered every row, UTC; null: none';
