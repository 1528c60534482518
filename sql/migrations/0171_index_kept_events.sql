-- Deliveries that could not be read stand in findings for a week: they are few among all that is settled.
CREATE INDEX webhook_events_kept ON pluggy_sync.webhook_events (accepted_at)
    WHERE state = 'ignored' AND (reason = 'unknown_event' OR reason LIKE 'unreadable%');
