-- Everything this program remembers. Times are timestamptz in UTC; every column of ours has a default.
-- email_jobs, email_attempts and email_tracking are partitioned by day; db/partitions.py makes their partitions.

CREATE TABLE email_jobs (
    id               uuid          NOT NULL,                 -- UUIDv7, so the day is in the id
    job_id           varchar(100)  NOT NULL,                 -- unique within its tenant; email_job_keys holds that
    tenant_id        bigint        NOT NULL DEFAULT 0,
    type             text          NOT NULL DEFAULT 'email',
    template         text          NOT NULL DEFAULT '',
    recipient_email  text          NOT NULL DEFAULT '',
    recipient_name   text          NOT NULL DEFAULT '',
    subject          text          NOT NULL DEFAULT '',
    content          text,
    data             jsonb,
    priority         text          NOT NULL DEFAULT 'normal',
    lane             text          NOT NULL DEFAULT 'normal',
    status           text          NOT NULL DEFAULT 'pending' CHECK (status IN (
        'pending', 'scheduled', 'sending', 'retrying', 'uncertain',
        'sent', 'deferred', 'delivered', 'dropped', 'bounced', 'opened', 'clicked', 'unsubscribed', 'complained',
        'suppressed', 'dead', 'expired', 'cancelled')),
    scheduled_at     timestamptz,
    expires_at       timestamptz,
    processed_at     timestamptz,                            -- when the first attempt was opened
    sent_at          timestamptz,
    delivered_at     timestamptz,
    opened_at        timestamptz,
    clicked_at       timestamptz,
    retry_count      integer       NOT NULL DEFAULT 0,       -- refusals only; waiting for others never counts
    max_retries      integer       NOT NULL DEFAULT 3,
    error_message    text,
    provider         text,
    message_id       text,
    campaign_id      text,
    batch_id         bigint        NOT NULL DEFAULT 0,
    attempt_id       uuid,                                   -- the newest attempt; opening the next one compares and sets it
    attempts         integer       NOT NULL DEFAULT 0,
    generation       integer       NOT NULL DEFAULT 0,       -- raised by every replay of a dead job
    next_attempt_at  timestamptz,                            -- when the row is due; NULL = it is in nobody's queue
    leased_by        text,                                   -- the slot that has taken the due row
    revived_at       timestamptz,                            -- when a dead job was replayed last: its waiting begins anew
    created_at       timestamptz   NOT NULL DEFAULT now(),
    updated_at       timestamptz   NOT NULL DEFAULT now(),
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- Partial indexes on what is not NULL only for waiting rows keep all other updates HOT; never index status.
CREATE INDEX email_jobs_due ON email_jobs (lane, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX email_jobs_leased ON email_jobs (leased_by) WHERE leased_by IS NOT NULL;
CREATE INDEX email_jobs_campaign ON email_jobs (campaign_id) WHERE campaign_id IS NOT NULL;

CREATE TABLE email_attempts (
    id                uuid        NOT NULL,                  -- UUIDv7: the attempt id that travels as the ESP's metadata
    job_id            uuid        NOT NULL,                  -- an email_jobs.id
    tenant_id         bigint      NOT NULL DEFAULT 0,
    account_tenant    bigint      NOT NULL DEFAULT 0,        -- whose credentials; 0 = the service's
    provider          text        NOT NULL,
    mailbox_provider  text        NOT NULL DEFAULT 'other',
    cohort_id         uuid,
    number            integer     NOT NULL DEFAULT 1,
    state             text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'accepted', 'rejected', 'not_taken', 'uncertain')),
    message_id        text,
    owner             text        NOT NULL DEFAULT '',       -- host/slot/incarnation of the worker that opened it
    opened_at         timestamptz NOT NULL DEFAULT now(),
    answered_at       timestamptz,
    delivered_at      timestamptz,
    opened_first_at   timestamptz,
    clicked_first_at  timestamptz,
    bounced_at        timestamptz,
    complained_at     timestamptz,
    error             text,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE TABLE email_tracking (
    id           uuid        NOT NULL,                       -- uuid5(account, event id): a repeated event meets its own row
    job_id       uuid,                                       -- an email_jobs.id: a reference, not a constraint (see docs/adr)
    attempt_id   uuid,
    recipient    text,
    message_id   text,
    provider     text        NOT NULL DEFAULT '',
    event_type   text        NOT NULL,
    event_data   jsonb       NOT NULL DEFAULT '{}',
    ip_address   inet,
    user_agent   text,
    occurred_at  timestamptz NOT NULL,
    PRIMARY KEY (occurred_at, id)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX email_tracking_job ON email_tracking (job_id) WHERE job_id IS NOT NULL;

CREATE TABLE email_jobs_default PARTITION OF email_jobs DEFAULT;
CREATE TABLE email_attempts_default PARTITION OF email_attempts DEFAULT;
CREATE TABLE email_tracking_default PARTITION OF email_tracking DEFAULT;

CREATE TABLE email_job_keys (
    key           uuid        PRIMARY KEY,                   -- uuid5("job:<tenant>:<job id>")
    id            uuid        NOT NULL,                      -- the email_jobs.id that won it
    content_hash  bytea       NOT NULL,
    seen_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX email_job_keys_seen ON email_job_keys USING brin (seen_at);

-- The original bytes of the records whose jobs left the fast path, once per content; index says which email of the record a job is.
CREATE TABLE email_payload_bodies (
    hash        bytea       PRIMARY KEY,                     -- sha256 of the plain bytes
    body        bytea       NOT NULL,                        -- compressed, and encrypted where keys are set
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE email_payloads (
    id            uuid        PRIMARY KEY,                   -- an email_jobs.id
    body_hash     bytea       NOT NULL,
    record_index  integer,
    source        jsonb       NOT NULL DEFAULT '{}',         -- topic, partition and offset it came from
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX email_payloads_body ON email_payloads (body_hash);

CREATE TABLE dead_letters (
    id           uuid        PRIMARY KEY,
    reason       text        NOT NULL,
    error        text        NOT NULL DEFAULT '',
    job_id       text,
    tenant_id    bigint      NOT NULL DEFAULT 0,
    row_id       uuid,                                       -- the email_jobs.id, where there is a row
    record_index integer,
    source       jsonb       NOT NULL DEFAULT '{}',
    value        bytea,
    attempts     integer     NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    replayed_at  timestamptz
);
CREATE INDEX dead_letters_created ON dead_letters (created_at);

-- Attempts of which nobody knows whether the ESP took them; a row leaves this table only by evidence or policy.
CREATE TABLE uncertain_attempts (
    attempt_id      uuid        PRIMARY KEY,
    job_id          uuid        NOT NULL,
    tenant_id       bigint      NOT NULL DEFAULT 0,
    provider        text        NOT NULL,
    account_tenant  bigint      NOT NULL DEFAULT 0,
    reason          text        NOT NULL DEFAULT '',
    since           timestamptz NOT NULL DEFAULT now()
);

-- Events on their way to Kafka: one row per batch and topic, deleted when the broker has them.
CREATE TABLE outbox (
    id          uuid        PRIMARY KEY,
    topic       text        NOT NULL,
    keys        text[]      NOT NULL,
    values      text[]      NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE suppressions (
    address    text        NOT NULL,                         -- lower case
    tenant     bigint      NOT NULL DEFAULT 0,
    reason     text        NOT NULL,                         -- hard-bounce, complaint, unsubscribe, manual
    source     text        NOT NULL DEFAULT '',
    at         timestamptz NOT NULL DEFAULT now(),
    until      timestamptz,
    PRIMARY KEY (address, tenant, reason)
);

CREATE TABLE send_cohorts (
    id          uuid        PRIMARY KEY,                     -- uuid5 of tenant, class and batch or hour
    tenant_id   bigint      NOT NULL DEFAULT 0,
    stream      text        NOT NULL DEFAULT 'transactional',
    batch_id    bigint      NOT NULL DEFAULT 0,
    started_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE esp_cohort_stats (                              -- one row per writer slot, so that no two workers wait for each other
    cohort_id         uuid    NOT NULL,
    provider          text    NOT NULL,
    mailbox_provider  text    NOT NULL,
    slot              text    NOT NULL,
    sent              bigint  NOT NULL DEFAULT 0,
    delivered         bigint  NOT NULL DEFAULT 0,
    opened            bigint  NOT NULL DEFAULT 0,
    opened_machine    bigint  NOT NULL DEFAULT 0,
    clicked           bigint  NOT NULL DEFAULT 0,
    bounced           bigint  NOT NULL DEFAULT 0,
    complained        bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (cohort_id, provider, mailbox_provider, slot)
) WITH (fillfactor = 70);

CREATE TABLE esp_weights (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    computed_at  timestamptz NOT NULL DEFAULT now(),
    weights      jsonb       NOT NULL,                       -- {"<tenant>": {"<mailbox provider or *>": {"<provider>": permille}}}
    inputs       jsonb       NOT NULL DEFAULT '{}',
    reason       text        NOT NULL DEFAULT ''
);

CREATE TABLE email_templates (
    id            uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    name          varchar(100) NOT NULL UNIQUE,
    type          text         NOT NULL DEFAULT 'transactional',
    subject       text         NOT NULL DEFAULT '',
    html_content  text         NOT NULL DEFAULT '',
    text_content  text         NOT NULL DEFAULT '',
    variables     jsonb        NOT NULL DEFAULT '[]',
    is_active     boolean      NOT NULL DEFAULT true,
    created_by    text,
    created_at    timestamptz  NOT NULL DEFAULT now(),
    updated_at    timestamptz  NOT NULL DEFAULT now()
);

CREATE TABLE email_service_providers (
    tenant_id        bigint  NOT NULL DEFAULT 0,
    provider_name    text    NOT NULL,
    sending_domains  text[]  NOT NULL DEFAULT '{}',
    credentials      bytea,                                  -- encrypted JSON
    weight           integer NOT NULL DEFAULT 100,
    enabled          boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, provider_name)
);

CREATE TABLE email_batches (
    batch_id          bigint PRIMARY KEY,
    total_messages    bigint NOT NULL DEFAULT 0,
    batch_size        integer NOT NULL DEFAULT 0,
    interval_seconds  integer NOT NULL DEFAULT 0,
    current_batch     integer NOT NULL DEFAULT 0,
    total_batches     integer NOT NULL DEFAULT 0,
    start_time        timestamptz,
    end_time          timestamptz,
    status            text NOT NULL DEFAULT 'pending',
    user_id           bigint NOT NULL DEFAULT 0,
    plan              jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE campaigns (
    campaign_id  text NOT NULL,
    tenant_id    bigint NOT NULL DEFAULT 0,
    template     text NOT NULL DEFAULT '',
    status       text NOT NULL DEFAULT 'pending',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, campaign_id)
);

CREATE TABLE users (                                         -- tenants: their defaults
    id              bigint PRIMARY KEY,
    name            text NOT NULL DEFAULT '',
    from_email      text,
    from_name       text,
    reply_to        text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

-- One row per delivery slot of a host: the fence. Every opening transaction must find its own incarnation here.
CREATE TABLE workers (
    host           text        NOT NULL,
    slot           integer     NOT NULL,
    incarnation    bigint      NOT NULL DEFAULT 1,
    boot_id        uuid,
    pid            integer,
    first_attempt  uuid,                                     -- the ids of the batch that was opened last lie between these two
    last_attempt   uuid,
    started_at     timestamptz NOT NULL DEFAULT now(),
    opened_at      timestamptz,
    PRIMARY KEY (host, slot)
) WITH (fillfactor = 20);
CREATE TABLE worker_hosts (
    host         text        PRIMARY KEY,
    lease_until  timestamptz NOT NULL,
    boot_id      uuid,
    updated_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20);

-- Records under whose hand a worker died; at the third death the record is set aside.
CREATE TABLE crash_suspects (
    record      text        PRIMARY KEY,
    deaths      integer     NOT NULL DEFAULT 1,
    last_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_log (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    actor    text        NOT NULL DEFAULT '',
    action   text        NOT NULL,
    subject  text        NOT NULL DEFAULT '',
    details  jsonb       NOT NULL DEFAULT '{}'
);
