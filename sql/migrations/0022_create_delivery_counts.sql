-- Answers of the receivers, which count in memory and write once in a while.
CREATE TABLE pluggy_sync.delivery_counts (
    minute timestamptz NOT NULL,
    event text NOT NULL,
    answer text NOT NULL,
    deliveries bigint NOT NULL,
    PRIMARY KEY (minute, event, answer)
);

COMMENT ON TABLE pluggy_sync.delivery_counts IS 'Deliveries by minute, event name and answer';
