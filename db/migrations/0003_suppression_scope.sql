-- Whom a suppression stops: its tenant's mail, or everybody's where an operator says so; an unsubscribe the stream it was made in.
-- Code from before reads an entry of tenant 0 as one for everybody, and goes on doing so until it is replaced.

ALTER TABLE suppressions
    ADD COLUMN is_global  boolean NOT NULL DEFAULT false,    -- for every tenant
    ADD COLUMN stream     text    NOT NULL DEFAULT '';       -- of an unsubscribe: marketing or transactional; '' = not known: marketing
ALTER TABLE forgotten_suppressions
    ADD COLUMN is_global  boolean NOT NULL DEFAULT false,
    ADD COLUMN stream     text    NOT NULL DEFAULT '';

UPDATE suppressions SET is_global = true WHERE tenant = 0 AND source LIKE 'operator %';
UPDATE forgotten_suppressions SET is_global = true WHERE tenant = 0 AND source LIKE 'operator %';
