-- name: lock_reconnections
-- params: lock
-- returns: value
-- One worker at a time, until the transaction ends.
SELECT pg_try_advisory_xact_lock($1) AS locked;

-- name: load_endings
-- returns: one Endings
-- Whether any item ends or has ended, and whether accounts are linked already.
WITH withdrawn AS (
    SELECT connector_id FROM pluggy_sync.withdrawn_connectors
), items AS (
    SELECT id FROM pluggy.items WHERE deleted_at IS NOT NULL AND ended_at IS NOT NULL
    UNION ALL
    SELECT id FROM pluggy.items
    WHERE deleted_at IS NULL AND connector_id = ANY (ARRAY(SELECT connector_id FROM withdrawn))
)
SELECT EXISTS (SELECT FROM items) AS has_items,
       EXISTS (SELECT FROM pluggy_sync.account_links) AS has_links;

-- name: remove_void_links
-- returns: values
-- Links whose older item no longer ends, or one of whose accounts is a tombstone; with their rows. A
-- refusal stays as long as both accounts do. Returns the older items.
WITH withdrawn AS (
    SELECT connector_id FROM pluggy_sync.withdrawn_connectors
), links AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by, state FROM pluggy_sync.account_links
), ending AS (
    SELECT id FROM pluggy.items WHERE deleted_at IS NOT NULL AND ended_at IS NOT NULL
    UNION ALL
    SELECT id FROM pluggy.items
    WHERE deleted_at IS NULL AND connector_id = ANY (ARRAY(SELECT connector_id FROM withdrawn))
), lasting AS NOT MATERIALIZED (
    SELECT a.item_id, a.id FROM pluggy.accounts a JOIN pluggy.items i ON i.id = a.item_id
    WHERE a.deleted_at IS NULL AND (i.deleted_at IS NULL OR i.ended_at IS NOT NULL)
), void AS (
    SELECT l.* FROM links l
    WHERE l.item_id NOT IN (SELECT id FROM ending)
       OR NOT EXISTS (SELECT FROM lasting a WHERE a.item_id = l.item_id AND a.id = l.account_id)
       OR NOT EXISTS (SELECT FROM lasting a
                      WHERE a.item_id = l.superseded_by_item_id AND a.id = l.superseded_by)
), removed AS (
    DELETE FROM pluggy_sync.account_links l USING void v
    WHERE (l.item_id, l.account_id, l.superseded_by_item_id, l.superseded_by)
          = (v.item_id, v.account_id, v.superseded_by_item_id, v.superseded_by)
), rows AS (
    -- All rows between the two items: those of other accounts of theirs are linked again at once.
    DELETE FROM pluggy_sync.row_links r USING void v
    WHERE r.item_id = v.item_id AND r.superseded_by_item_id = v.superseded_by_item_id
      AND v.state IN ('linked', 'accepted')
), again AS (
    UPDATE pluggy_sync.account_links l SET checked_seq = 0 FROM void v
    WHERE l.item_id = v.item_id AND l.superseded_by_item_id = v.superseded_by_item_id
      AND NOT EXISTS (SELECT FROM void w
                      WHERE (w.item_id, w.account_id, w.superseded_by_item_id, w.superseded_by)
                            = (l.item_id, l.account_id, l.superseded_by_item_id, l.superseded_by))
)
SELECT DISTINCT item_id FROM void WHERE state IN ('linked', 'accepted');

-- name: load_account_pairs
-- params: limit
-- returns: many AccountPair
-- Accounts of items that end, each with accounts of lasting items that may be the same: a bank account
-- by number, kind and tax number, a card by its last four digits and its holder. Never of another user
-- of yours, nor of another bank by its transfer number. matching_rows: transactions that agree in day
-- and amount; is_proposed: the pair waits for a person with these figures already. Only where the newer
-- account has been read whole; the account stored first comes first.
WITH withdrawn AS (
    SELECT connector_id FROM pluggy_sync.withdrawn_connectors
), decided AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by, state FROM pluggy_sync.account_links
    WHERE state <> 'proposed'
), proposed AS (
    SELECT item_id, account_id, superseded_by_item_id, superseded_by, matching_rows, compared_rows
    FROM pluggy_sync.account_links WHERE state = 'proposed'
), complete AS (
    SELECT item_id, scope_id FROM pluggy_sync.product_sync
    WHERE product = 'transactions' AND complete_read_at IS NOT NULL
), ending AS (
    SELECT id, client_user_id FROM pluggy.items WHERE deleted_at IS NOT NULL AND ended_at IS NOT NULL
    UNION ALL
    SELECT id, client_user_id FROM pluggy.items
    WHERE deleted_at IS NULL AND connector_id = ANY (ARRAY(SELECT connector_id FROM withdrawn))
), older AS MATERIALIZED (
    SELECT a.item_id, a.id, a.type, a.currency_code, a.credit_brand,
           nullif(regexp_replace(a.number, '\D', '', 'g'), '') AS digits,
           nullif(regexp_replace(a.tax_number, '\D', '', 'g'), '') AS tax_digits,
           nullif(split_part(a.bank_transfer_number, '/', 1), '') AS bank,
           nullif(e.client_user_id, '') AS client_user_id
    FROM ending e
    -- OFFSET and LIMIT: each is looked up by an index; joins would read all accounts and items.
    CROSS JOIN LATERAL (
        SELECT * FROM pluggy.accounts WHERE item_id = e.id AND deleted_at IS NULL OFFSET 0
    ) AS a
    WHERE NOT EXISTS (SELECT FROM decided d WHERE d.item_id = a.item_id AND d.account_id = a.id
                      AND d.state <> 'refused')
), pairs AS (
    SELECT o.item_id, o.id AS account_id, n.item_id AS newer_item_id, n.id AS newer_id, o.type,
           n.first_seen_at
    FROM older o
    CROSS JOIN LATERAL (
        SELECT a.item_id, a.id, a.first_seen_at, a.credit_brand,
               regexp_replace(a.number, '\D', '', 'g') AS digits,
               nullif(regexp_replace(a.tax_number, '\D', '', 'g'), '') AS tax_digits,
               nullif(split_part(a.bank_transfer_number, '/', 1), '') AS bank
        FROM pluggy.accounts a
        WHERE right(regexp_replace(a.number, '\D', '', 'g'), 4) = right(o.digits, 4) AND a.type = o.type
          AND a.deleted_at IS NULL AND a.currency_code IS NOT DISTINCT FROM o.currency_code
          AND coalesce(nullif(regexp_replace(a.tax_number, '\D', '', 'g'), '') = o.tax_digits,
                       o.type = 'CREDIT')
        OFFSET 0
    ) AS n
    CROSS JOIN LATERAL (
        SELECT i.connector_id, nullif(i.client_user_id, '') AS client_user_id FROM pluggy.items i
        WHERE i.id = n.item_id AND i.deleted_at IS NULL LIMIT 1
    ) AS owner
    CROSS JOIN LATERAL (
        SELECT FROM complete c WHERE c.item_id = n.item_id AND c.scope_id = n.id LIMIT 1
    ) AS is_complete
    WHERE NOT EXISTS (SELECT FROM withdrawn w WHERE w.connector_id = owner.connector_id)
      AND coalesce(owner.client_user_id = o.client_user_id, true)
      AND CASE o.type
              WHEN 'BANK' THEN n.digits = o.digits AND coalesce(n.bank = o.bank, true)
              WHEN 'CREDIT' THEN coalesce(n.tax_digits = o.tax_digits,
                                    owner.client_user_id = o.client_user_id)
                   AND coalesce(n.credit_brand = o.credit_brand, true)
              ELSE false END
      AND NOT EXISTS (SELECT FROM decided d
                      WHERE d.item_id = o.item_id AND d.account_id = o.id AND d.state = 'refused'
                        AND d.superseded_by_item_id = n.item_id AND d.superseded_by = n.id)
    LIMIT $1
), cards AS (
    SELECT item_id, account_id, newer_item_id, newer_id FROM pairs WHERE type = 'CREDIT'
), newer_rows AS (
    SELECT c.item_id, c.account_id, c.newer_item_id, c.newer_id, t.posted_on, t.amount,
           coalesce(t.currency_code, '') AS currency, count(*) AS rows
    FROM cards c
    JOIN pluggy.transactions t ON t.item_id = c.newer_item_id AND t.account_id = c.newer_id
        AND t.deleted_at IS NULL
    GROUP BY c.item_id, c.account_id, c.newer_item_id, c.newer_id, t.posted_on, t.amount,
             coalesce(t.currency_code, '')
), begins AS (
    SELECT item_id, account_id, newer_item_id, newer_id, min(posted_on) AS day FROM newer_rows
    GROUP BY item_id, account_id, newer_item_id, newer_id
), older_rows AS (
    SELECT b.item_id, b.account_id, b.newer_item_id, b.newer_id, t.posted_on, t.amount,
           coalesce(t.currency_code, '') AS currency, count(*) AS rows
    FROM begins b
    JOIN pluggy.transactions t ON t.item_id = b.item_id AND t.account_id = b.account_id
        AND t.deleted_at IS NULL AND t.posted_on >= b.day
    GROUP BY b.item_id, b.account_id, b.newer_item_id, b.newer_id, t.posted_on, t.amount,
             coalesce(t.currency_code, '')
), matches AS (
    SELECT o.item_id, o.account_id, o.newer_item_id, o.newer_id, sum(o.rows) AS compared,
           sum(least(o.rows, coalesce(n.rows, 0))) AS matching
    FROM older_rows o
    LEFT JOIN newer_rows n USING (item_id, account_id, newer_item_id, newer_id, posted_on, amount,
                                  currency)
    GROUP BY o.item_id, o.account_id, o.newer_item_id, o.newer_id
)
SELECT p.item_id, p.account_id, p.newer_item_id, p.newer_id, p.type = 'CREDIT' AS is_card,
       coalesce(m.matching, 0)::bigint AS matching_rows, coalesce(m.compared, 0)::bigint AS compared_rows,
       EXISTS (SELECT FROM proposed s
               WHERE (s.item_id, s.account_id, s.superseded_by_item_id, s.superseded_by)
                     = (p.item_id, p.account_id, p.newer_item_id, p.newer_id)
                 AND s.matching_rows = coalesce(m.matching, 0)
                 AND s.compared_rows = coalesce(m.compared, 0)) AS is_proposed
FROM pairs p
LEFT JOIN matches m ON m.item_id = p.item_id AND m.account_id = p.account_id
    AND m.newer_item_id = p.newer_item_id AND m.newer_id = p.newer_id
ORDER BY p.item_id, p.account_id, p.first_seen_at, p.newer_item_id, p.newer_id;

-- name: add_account_links
-- params: run_id, item_ids, account_ids, newer_item_ids, newer_ids, states, reasons, matching, compared
-- returns: count
-- A proposal may become certain; what a person has decided stays.
INSERT INTO pluggy_sync.account_links AS stored
    (run_id, item_id, account_id, superseded_by_item_id, superseded_by, state, reason, matching_rows,
     compared_rows)
SELECT $1, l.* FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[],
                           $8::bigint[], $9::bigint[]) AS l
ON CONFLICT (item_id, account_id, superseded_by_item_id, superseded_by) DO UPDATE
SET state = excluded.state, reason = excluded.reason, run_id = excluded.run_id,
    matching_rows = excluded.matching_rows, compared_rows = excluded.compared_rows
WHERE stored.state = 'proposed'
  AND (stored.state, stored.matching_rows, stored.compared_rows)
      <> (excluded.state, excluded.matching_rows, excluded.compared_rows);

-- name: load_due_links
-- params: limit
-- returns: many DueLink
-- Linked accounts of which either item has had a run since their rows were linked. seq: the last run
-- of either, up to which they will be.
WITH due AS (
    SELECT l.item_id, l.account_id, l.superseded_by_item_id, l.superseded_by, l.checked_seq, l.linked_at,
           (SELECT max(r.seq) FROM pluggy_sync.runs r
            WHERE r.item_id IN (l.item_id, l.superseded_by_item_id) AND r.kind <> 'reconnection'
              AND (r.inserted + r.changed + r.deleted > 0 OR r.outcome = 'lost')) AS seq
    FROM pluggy_sync.account_links l
    WHERE l.state IN ('linked', 'accepted')
)
SELECT item_id, account_id, superseded_by_item_id AS newer_item_id, superseded_by AS newer_id, seq
FROM due WHERE seq > checked_seq
ORDER BY linked_at, item_id, account_id LIMIT $1;

-- name: mark_link_checked
-- params: item_id, account_id, seq
-- returns: none
UPDATE pluggy_sync.account_links SET checked_seq = $3
WHERE item_id = $1 AND account_id = $2 AND state IN ('linked', 'accepted');

-- name: link_equal_transactions
-- params: item_id, account_id, newer_item_id, newer_id, run_id
-- returns: value
-- Links live rows that agree in day, amount and text, one to one: of several equal ones as many as
-- both accounts have, for which is which makes no difference to a sum. Returns how many.
WITH linked AS (
    SELECT unnest(ARRAY[id, superseded_by]) AS id FROM pluggy_sync.row_links
    WHERE item_id = $1 AND product = 'transactions' AND superseded_by_item_id = $3
), numbered AS (
    SELECT t.item_id, t.id, t.posted_on, t.amount, t.currency_code, w.words,
           row_number() OVER (PARTITION BY t.item_id, t.posted_on, t.amount, t.currency_code, w.words
                              ORDER BY t.date, t.id) AS nth
    FROM pluggy.transactions t
    CROSS JOIN LATERAL (
        SELECT lower(btrim(regexp_replace(coalesce(t.description, ''), '\s+', ' ', 'g'))) AS words
    ) AS w
    WHERE (t.item_id, t.account_id) IN (($1, $2), ($3, $4)) AND t.deleted_at IS NULL
      AND t.id NOT IN (SELECT id FROM linked)
), added AS (
    INSERT INTO pluggy_sync.row_links
        (item_id, product, id, superseded_by_item_id, superseded_by, reason, run_id)
    SELECT $1, 'transactions', o.id, $3, n.id, 'amount+date+description', $5
    FROM numbered o
    JOIN numbered n ON n.item_id = $3 AND n.posted_on = o.posted_on AND n.amount = o.amount
        AND n.words = o.words AND n.nth = o.nth
        AND n.currency_code IS NOT DISTINCT FROM o.currency_code
    WHERE o.item_id = $1
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT count(*) AS rows FROM added;

-- name: load_unlinked
-- params: item_id, account_id, newer_item_id, newer_id, days, limit
-- returns: many UnlinkedRow
-- nullable: currency_code, description, source_created_at
-- Live rows of both accounts that are not linked yet, of the time that both cover, and so many days
-- beside it.
WITH linked AS (
    SELECT id, superseded_by FROM pluggy_sync.row_links
    WHERE item_id = $1 AND product = 'transactions' AND superseded_by_item_id = $3
), bounds AS (
    SELECT min(t.posted_on) FILTER (WHERE t.item_id = $3) - $5::integer AS first_day,
           max(t.posted_on) FILTER (WHERE t.item_id = $1) + $5::integer AS last_day
    FROM pluggy.transactions t
    WHERE (t.item_id, t.account_id) IN (($1, $2), ($3, $4)) AND t.deleted_at IS NULL
)
SELECT t.item_id = $3 AS is_newer, t.id, t.amount, t.currency_code, t.posted_on, t.description,
       t.source_created_at, t.first_seen_at
FROM pluggy.transactions t
WHERE t.deleted_at IS NULL AND (t.item_id, t.account_id) IN (($1, $2), ($3, $4))
  AND t.posted_on BETWEEN (SELECT first_day FROM bounds) AND (SELECT last_day FROM bounds)
  AND NOT EXISTS (SELECT FROM linked l
                  WHERE t.id = CASE WHEN t.item_id = $1 THEN l.id ELSE l.superseded_by END)
ORDER BY t.posted_on, t.id LIMIT $6;

-- name: add_row_links
-- params: item_id, newer_item_id, run_id, ids, superseded_bys, reasons
-- returns: none
INSERT INTO pluggy_sync.row_links
    (item_id, product, id, superseded_by_item_id, superseded_by, reason, run_id)
SELECT $1, 'transactions', l.id, $2, l.superseded_by, l.reason, $3
FROM unnest($4::uuid[], $5::uuid[], $6::text[]) AS l(id, superseded_by, reason)
ON CONFLICT DO NOTHING;

-- name: link_bills
-- params: item_id, account_id, newer_item_id, newer_id, run_id
-- returns: value
-- Bills of one due date: a card has one. Returns how many.
WITH older AS (
    SELECT min(id::text)::uuid AS id, due_date FROM pluggy.bills
    WHERE item_id = $1 AND account_id = $2 AND deleted_at IS NULL
    GROUP BY due_date HAVING count(*) = 1
), newer AS (
    SELECT min(id::text)::uuid AS id, due_date FROM pluggy.bills
    WHERE item_id = $3 AND account_id = $4 AND deleted_at IS NULL
    GROUP BY due_date HAVING count(*) = 1
), added AS (
    INSERT INTO pluggy_sync.row_links
        (item_id, product, id, superseded_by_item_id, superseded_by, reason, run_id)
    SELECT $1, 'bills', o.id, $3, n.id, 'due_date', $5
    FROM older o JOIN newer n ON n.due_date = o.due_date
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT count(*) AS rows FROM added;

-- name: link_holdings
-- params: item_id, newer_item_id, run_id
-- returns: value
-- Investments and loans of two items with a linked account, one to one by what names them, and
-- movements of linked investments by day, amount and quantity. Several of one name are linked if both
-- items have as many, in the order of their figures. Returns how many.
WITH linked AS (
    SELECT product, id, superseded_by FROM pluggy_sync.row_links
    WHERE item_id = $1 AND superseded_by_item_id = $2
), investments AS (
    SELECT item_id, id, jsonb_build_array(type, subtype, name, number, code, isin, due_date, currency_code)
               AS identity, jsonb_build_array(quantity, amount_original, purchase_date) AS figures
    FROM pluggy.investments WHERE item_id IN ($1, $2) AND deleted_at IS NULL
), loans AS (
    SELECT item_id, id, jsonb_build_array(contract_number, ipoc_code, type) AS identity,
           jsonb_build_array(contract_amount, contract_date) AS figures
    FROM pluggy.loans
    WHERE item_id IN ($1, $2) AND deleted_at IS NULL AND coalesce(contract_number, ipoc_code) IS NOT NULL
), holdings AS (
    SELECT 'investments' AS product, item_id, id, identity, figures FROM investments
    UNION ALL SELECT 'loans', item_id, id, identity, figures FROM loans
), counted_holdings AS (
    SELECT product, item_id, id, identity,
           count(*) OVER (PARTITION BY product, item_id, identity) AS equals,
           row_number() OVER (PARTITION BY product, item_id, identity ORDER BY figures, id) AS nth
    FROM holdings
), found AS (
    SELECT o.product, o.id, n.id AS superseded_by
    FROM counted_holdings o
    JOIN counted_holdings n ON n.product = o.product AND n.identity = o.identity
        AND n.equals = o.equals AND n.nth = o.nth
    WHERE o.item_id = $1 AND n.item_id = $2
), known AS (
    SELECT product, id, superseded_by FROM linked UNION SELECT product, id, superseded_by FROM found
), movements AS (
    SELECT item_id, investment_id, id, date, amount, quantity, type,
           row_number() OVER (PARTITION BY item_id, investment_id, date, amount, quantity, type
                              ORDER BY id) AS nth
    FROM pluggy.investment_transactions WHERE item_id IN ($1, $2) AND deleted_at IS NULL
), moved AS (
    SELECT 'investment_transactions' AS product, o.id, n.id AS superseded_by
    FROM known k
    JOIN movements o ON o.item_id = $1 AND o.investment_id = k.id
    JOIN movements n ON n.item_id = $2 AND n.investment_id = k.superseded_by AND n.date = o.date
        AND n.amount IS NOT DISTINCT FROM o.amount AND n.quantity IS NOT DISTINCT FROM o.quantity
        AND n.type IS NOT DISTINCT FROM o.type AND n.nth = o.nth
    WHERE k.product = 'investments'
), added AS (
    INSERT INTO pluggy_sync.row_links
        (item_id, product, id, superseded_by_item_id, superseded_by, reason, run_id)
    SELECT $1, f.product, f.id, $2, f.superseded_by, 'identity', $3
    FROM (SELECT * FROM found UNION ALL SELECT * FROM moved) AS f
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT count(*) AS rows FROM added;

-- name: list_account_links
-- params: item_id? = null, limit? = null
-- returns: many AccountLink
-- The links of an older item (null: of all), first those that wait for a person. limit: null: all.
SELECT state, item_id, account_id, superseded_by_item_id, superseded_by, reason, matching_rows,
       compared_rows, linked_at
FROM pluggy_sync.account_links WHERE $1::uuid IS NULL OR item_id = $1
ORDER BY state <> 'proposed', linked_at, item_id, account_id
LIMIT $2;

-- name: decide_account_link
-- params: account_id, superseded_by, accepts
-- returns: values
-- A person's decision about one pair: accepted, its rows are linked next; refused, also what was
-- linked of itself, they count apart, and the pair is never proposed again. Returns the older item.
WITH decided AS (
    UPDATE pluggy_sync.account_links
    SET state = CASE WHEN $3::boolean THEN 'accepted' ELSE 'refused' END, checked_seq = 0
    WHERE account_id = $1 AND superseded_by = $2
    RETURNING item_id, superseded_by_item_id
), rows AS (
    DELETE FROM pluggy_sync.row_links r USING decided d
    WHERE NOT $3::boolean AND r.item_id = d.item_id AND r.superseded_by_item_id = d.superseded_by_item_id
), again AS (
    UPDATE pluggy_sync.account_links l SET checked_seq = 0 FROM decided d
    WHERE l.item_id = d.item_id AND l.superseded_by_item_id = d.superseded_by_item_id
      AND (l.account_id, l.superseded_by) <> ($1, $2)
)
SELECT item_id FROM decided;
