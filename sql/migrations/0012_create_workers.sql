-- Live worker processes and their job slots: how many rings the queue may hold, and who is alive.
CREATE TABLE pluggy_sync.workers (
    worker_id text PRIMARY KEY,
    slots integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Answers of the receivers, flushed from memory: minute x event name x answer.
CREATE TABLE pluggy_sync.delivery_counts (
    minute timestamptz NOT NULL,
    event text NOT NULL,
    answer text NOT NULL,
    deliveries bigint NOT NULL,
    PRIMARY KEY (minute, event, answer)
);
