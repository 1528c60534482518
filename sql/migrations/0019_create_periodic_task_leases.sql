-- Periodic tasks that one worker at a time does: the worker that moves due_at does the task.
CREATE TABLE pluggy_sync.periodic_task_leases (
    name text PRIMARY KEY,
    due_at timestamptz NOT NULL DEFAULT '-infinity',
    done_at timestamptz,
    failure_code text
);
INSERT INTO pluggy_sync.periodic_task_leases (name)
VALUES ('reconciliation'), ('subscriptions'), ('retention'), ('items_list');

COMMENT ON TABLE pluggy_sync.periodic_task_leases IS
    'When each periodic task is due, and how it last went';
COMMENT ON COLUMN pluggy_sync.periodic_task_leases.done_at IS 'When it last succeeded; null: not yet';
COMMENT ON COLUMN pluggy_sync.periodic_task_leases.failure_code IS
    'Why it last failed; null: it did not, or has not run yet';
