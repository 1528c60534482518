-- The schemas, each with one kind of reader. pluggy_sync exists already: it holds the list of migrations.
CREATE SCHEMA pluggy;
CREATE SCHEMA pluggy_live;
CREATE SCHEMA pluggy_ops;

COMMENT ON SCHEMA pluggy IS 'pluggy-sync: rows as Pluggy holds them, tombstones included';
COMMENT ON SCHEMA pluggy_live IS 'pluggy-sync: the same rows without tombstones; query these';
COMMENT ON SCHEMA pluggy_sync IS 'pluggy-sync: its own state';
COMMENT ON SCHEMA pluggy_ops IS 'pluggy-sync: views for operators; no personal data and no amounts';
