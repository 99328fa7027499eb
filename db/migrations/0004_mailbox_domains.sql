-- Which mailbox provider is behind a domain that the table in the code does not know, by its mail exchanger. Filled by the keeper
-- where MX_LOOKUPS allows it.
CREATE TABLE mailbox_domains (
    domain            text        PRIMARY KEY,               -- lower case
    mailbox_provider  text        NOT NULL DEFAULT 'other',
    exchanger         text        NOT NULL DEFAULT '',       -- the preferred one; '' = none, or no answer
    looked_up_at      timestamptz NOT NULL DEFAULT now(),
    again_at          timestamptz NOT NULL DEFAULT now()     -- when it is to be looked up anew, if mail still goes there
);
CREATE INDEX mailbox_domains_hosted ON mailbox_domains (looked_up_at) WHERE mailbox_provider <> 'other';

-- The metrics page asks for the last day's.
CREATE INDEX send_cohorts_started ON send_cohorts (started_at);
