CREATE VIEW pluggy_ops.findings AS
SELECT severity, kind, blocked_on, what, since, how_many, command, weight
FROM pluggy_sync.found
WHERE severity <> 'count'
ORDER BY weight DESC;

COMMENT ON VIEW pluggy_ops.findings IS
    'One row per kind of thing that is wrong or waits for somebody, the heaviest first. Findings '
    'of severity info do not colour the light of overview';
COMMENT ON COLUMN pluggy_ops.findings.severity IS
    'red or yellow, which colour the light of overview, or info, which does not';
COMMENT ON COLUMN pluggy_ops.findings.kind IS 'Kind of the problem; one row a kind';
COMMENT ON COLUMN pluggy_ops.findings.blocked_on IS
    'The party that has to act: us (the operators of this service), pluggy, bank or user';
COMMENT ON COLUMN pluggy_ops.findings.what IS
    'The problem and its remedy, a sentence for a person';
COMMENT ON COLUMN pluggy_ops.findings.since IS 'Since when, UTC; null: not known';
COMMENT ON COLUMN pluggy_ops.findings.how_many IS
    'Number of things: events, rows, items or products, as the text says';
COMMENT ON COLUMN pluggy_ops.findings.command IS
    'Command that helps; null: none does, and column what says how to fix it';
COMMENT ON COLUMN pluggy_ops.findings.weight IS 'Order of the findings: the heavier first';
