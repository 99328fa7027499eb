-- What ESPs report about emails that they took: joined, counted, and remembered once.

ALTER TABLE email_attempts
    ADD COLUMN reported           text,                      -- the highest status that its events say, NULL = none came
    ADD COLUMN machine_opened_at  timestamptz,               -- the first open by a machine; opened_first_at is a person's
    ADD COLUMN bounce_class       text;                      -- the worst of its bounces: soft < block < hard
ALTER TABLE email_tracking
    ADD COLUMN is_machine         boolean NOT NULL DEFAULT false;  -- the ESP, user agent or address says so; speed is judged apart
ALTER TABLE esp_cohort_stats
    ADD COLUMN bounced_hard       bigint  NOT NULL DEFAULT 0;

-- Neither column ever changes after the insert, so updates stay HOT. An index on message_id would end that: events without our
-- attempt id are looked up by their recipient, and the few candidates are compared by message id.
CREATE INDEX email_attempts_job ON email_attempts (job_id);
CREATE INDEX email_jobs_recipient ON email_jobs (lower(recipient_email));
CREATE INDEX uncertain_attempts_job ON uncertain_attempts (job_id);

-- Events that matched no attempt yet. The record step writes the attempt of a fresh send here; a webhook worker looks again
-- twice, since a send may be recorded by a transaction that could not see the event. After ten minutes the row goes.
CREATE TABLE unmatched_events (
    id              uuid        PRIMARY KEY,                 -- of the tracking row
    occurred_at     timestamptz NOT NULL,
    provider        text        NOT NULL,
    account_tenant  bigint      NOT NULL,
    attempt_id      uuid,                                    -- what the event itself names
    message_id      text        NOT NULL DEFAULT '',
    recipient       text        NOT NULL DEFAULT '',         -- lower case
    event           text        NOT NULL,                    -- the event as JSON, without the ESP's own fields
    found_attempt   uuid,
    arrived_at      timestamptz NOT NULL DEFAULT now(),
    check_at        timestamptz NOT NULL
);
CREATE INDEX unmatched_events_recipient ON unmatched_events (recipient);
CREATE INDEX unmatched_events_check ON unmatched_events (check_at);

-- Addresses refused for good, by account and stretch of time, and whether that account delivered anything in it: many refusals
-- and no delivery at all are the ESP's fault, and suppress nobody.
CREATE TABLE rejections (
    provider        text        NOT NULL,
    account_tenant  bigint      NOT NULL,
    window_start    timestamptz NOT NULL,
    tenant          bigint      NOT NULL,
    address         text        NOT NULL,                    -- lower case
    at              timestamptz NOT NULL,
    PRIMARY KEY (provider, account_tenant, window_start, tenant, address)
);
CREATE INDEX rejections_address ON rejections (address);
CREATE TABLE account_windows (
    provider        text        NOT NULL,
    account_tenant  bigint      NOT NULL,
    window_start    timestamptz NOT NULL,
    has_delivery    boolean     NOT NULL DEFAULT false,
    is_held         boolean     NOT NULL DEFAULT false,      -- its rejections suppress nobody
    PRIMARY KEY (provider, account_tenant, window_start)
);
CREATE INDEX suppressions_source ON suppressions (source, at);

-- Suppressions of people who asked to be forgotten: sha256 of the lower-case address.
CREATE TABLE forgotten_suppressions (
    hash       bytea       NOT NULL,
    tenant     bigint      NOT NULL DEFAULT 0,
    reason     text        NOT NULL,
    source     text        NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hash, tenant, reason)
);

-- Up to when the events of an account are applied, which means something only while its topic's partitions have no lag.
CREATE TABLE webhook_watermarks (
    provider        text        NOT NULL,
    account_tenant  bigint      NOT NULL,
    newest_at       timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, account_tenant)
) WITH (fillfactor = 20);
CREATE TABLE webhook_progress (
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    lag         bigint      NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);
