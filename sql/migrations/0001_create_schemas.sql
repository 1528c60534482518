-- Three schemas with one reader each: pluggy (the mirror), pluggy_live (what applications query),
-- pluggy_sync (our own state) and pluggy_ops (what dashboards query). The last two hold no money.
CREATE SCHEMA pluggy;
CREATE SCHEMA pluggy_live;
CREATE SCHEMA pluggy_ops;

COMMENT ON SCHEMA pluggy IS 'pluggy-sync: rows as Pluggy holds them, tombstones included';
COMMENT ON SCHEMA pluggy_live IS 'pluggy-sync: the same rows without tombstones; query these';
COMMENT ON SCHEMA pluggy_ops IS 'pluggy-sync: what operators look at; no personal data';
