-- The last failure of a run, with the id that Pluggy's support asks for.
ALTER TABLE pluggy_sync.runs ADD COLUMN failure_code text, ADD COLUMN error_id text;
