-- A person has looked at an absent row and says that it stays: neither tombstoned nor flagged again for its
-- absence until Pluggy has shown it once more.
ALTER TABLE pluggy.transactions ADD COLUMN deletion_refused_at timestamptz;
