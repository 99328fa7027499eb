-- What settles a doubt: when it is looked at, what it waits for, and what a policy has done already.

ALTER TABLE uncertain_attempts
    ADD COLUMN waits_for  text        NOT NULL DEFAULT 'grace', -- why nothing is decided, in one word (workers/keeping/doubt_rules.py)
    ADD COLUMN awaited    timestamptz,                       -- up to when the account's events must be applied
    ADD COLUMN passed_at  timestamptz,                       -- when they were first seen to be
    ADD COLUMN check_at   timestamptz NOT NULL DEFAULT now();   -- when a keeper looks again; one that looks puts it off
CREATE INDEX uncertain_attempts_check ON uncertain_attempts (check_at);

ALTER TABLE email_jobs
    ADD COLUMN resent_at      timestamptz,                   -- when a policy has sent it again: once in a generation
    ADD COLUMN only_provider  text;                          -- an earlier attempt there is in doubt: no other ESP may carry it

-- Jobs that more than one attempt was taken of: each once, and how many there were, which outlives them.
CREATE TABLE confirmed_duplicates (
    job_id    uuid        PRIMARY KEY,                       -- an email_jobs.id
    provider  text        NOT NULL,
    at        timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE duplicate_counts (
    provider  text        PRIMARY KEY,
    jobs      bigint      NOT NULL
) WITH (fillfactor = 20);
