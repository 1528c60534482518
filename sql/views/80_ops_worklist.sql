CREATE VIEW pluggy_ops.worklist AS
SELECT w.kind, w.severity, w.blocked_on, w.item_id, i.connector_id, i.connector_name, w.account_id,
       w.since, w.due_at, w.how_many, w.what, w.command, w.weight
FROM pluggy_sync.work w
LEFT JOIN pluggy.items i ON i.id = w.item_id
WHERE w.severity <> 'count'
ORDER BY w.weight DESC, w.since;

COMMENT ON VIEW pluggy_ops.worklist IS
    'The findings item by item: one row per thing that is wrong or waits for somebody';
COMMENT ON COLUMN pluggy_ops.worklist.kind IS 'Kind of the problem; the kinds of findings';
COMMENT ON COLUMN pluggy_ops.worklist.severity IS
    'red or yellow, which colour the light of overview, or info, which does not';
COMMENT ON COLUMN pluggy_ops.worklist.blocked_on IS
    'The party that has to act: us (the operators of this service), pluggy, bank or user';
COMMENT ON COLUMN pluggy_ops.worklist.item_id IS
    'The item that it is about; null: no item, or several';
COMMENT ON COLUMN pluggy_ops.worklist.connector_id IS
    'Pluggy''s number of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.worklist.connector_name IS
    'Name of the bank or broker; null: the item is not stored';
COMMENT ON COLUMN pluggy_ops.worklist.account_id IS
    'The account that it is about; null: the whole item, or no item';
COMMENT ON COLUMN pluggy_ops.worklist.since IS 'Since when, UTC; null: not known';
COMMENT ON COLUMN pluggy_ops.worklist.due_at IS
    'When it becomes worse, UTC, such as the end of a consent; null: it is so already';
COMMENT ON COLUMN pluggy_ops.worklist.how_many IS
    'Number of things: events, rows, items or products, as the text says';
COMMENT ON COLUMN pluggy_ops.worklist.what IS
    'The problem and its remedy, a sentence for a person';
COMMENT ON COLUMN pluggy_ops.worklist.command IS
    'Command that helps; null: none does, and column what says how to fix it';
COMMENT ON COLUMN pluggy_ops.worklist.weight IS 'Order of the findings: the heavier first';
