-- How often an email was put off, lanes that are stopped, and which templates are known to have rendered.

ALTER TABLE email_jobs
    ADD COLUMN waits  integer NOT NULL DEFAULT 0;            -- how often it was put off; the next wait is twice as long

-- A row is a lane that is stopped: nothing of it is taken from Kafka, no row of it is leased.
CREATE TABLE lane_pauses (
    lane       text        PRIMARY KEY,
    paused_at  timestamptz NOT NULL DEFAULT now(),
    paused_by  text        NOT NULL,                         -- a person, or '(itself)': then the program also looks when to go on
    reason     text        NOT NULL DEFAULT '',
    probes     uuid[]      NOT NULL DEFAULT '{}',            -- email_jobs.id of some that failed: one that goes out ends the pause
    probe_at   timestamptz                                   -- when the next of them is tried; NULL = never
);

-- The version of each template that rendered last: one that never did is its author's mistake, one that no longer does is ours.
CREATE TABLE rendered_templates (
    name         varchar(100) PRIMARY KEY,
    version      text         NOT NULL,
    rendered_at  timestamptz  NOT NULL DEFAULT now()
);
