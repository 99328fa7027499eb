-- That no callback waits, at a look, is never so under load. What counts is up to when all that was in a partition is applied.
-- Code from before writes lag and reads it while it is fresh; what it does not know of is NULL, for which every doubt waits.

ALTER TABLE webhook_progress
    ADD COLUMN applied_until  timestamptz,                   -- all that was in the partition at that moment is applied
    ALTER COLUMN lag SET DEFAULT 0;

-- Callbacks that could not be verified when they came, so that the line goes on behind them: tried again by webhook workers until they
-- can be. What is given up is a dead letter; its row stays without its value, for no silence of its ESP means anything since.
CREATE TABLE postponed_callbacks (
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    record_offset  bigint      NOT NULL,
    number         bigint      GENERATED ALWAYS AS IDENTITY, -- how workers call it while they try it again
    value          bytea,
    received_at    timestamptz,                              -- the record's own time
    stored_at      timestamptz NOT NULL DEFAULT now(),
    check_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, record_offset)
);
CREATE UNIQUE INDEX postponed_callbacks_number ON postponed_callbacks (number);
CREATE INDEX postponed_callbacks_check ON postponed_callbacks (check_at) WHERE value IS NOT NULL;
