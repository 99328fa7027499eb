-- That no callback waits, at a look, is never so under load. What counts is up to when all that was in a partition is applied.
-- Code from before writes lag and reads it while it is fresh; what it does not know of is NULL, for which every doubt waits.

ALTER TABLE webhook_progress
    ADD COLUMN applied_until  timestamptz,                   -- all that was in the partition at that moment is applied
    ALTER COLUMN lag SET DEFAULT 0;
