-- The ledger: keys, jobs and attempts. Every statement takes arrays, in one order, and locks rows by key.

-- name: find_keys
-- Which of these job ids are known, and what they stood for.
SELECT k.key, k.id, k.content_hash
FROM email_job_keys k
WHERE k.key = ANY(%(keys)s::uuid[])

-- name: find_standings
-- Where known jobs stand. A second statement, so that the bounds of the ids let the planner skip the other days' partitions.
SELECT j.id, j.status, j.attempt_id, j.attempts, j.retry_count, j.generation, j.provider,
       EXISTS (SELECT FROM email_payloads p WHERE p.id = j.id),
       EXTRACT(EPOCH FROM now() - greatest(j.created_at, j.scheduled_at, j.revived_at))::float8, j.only_provider, j.waits
FROM email_jobs j
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: hold_slot
-- The fence: only the newest incarnation of a slot finds its row. The ids of the batch tell a successor where to look.
UPDATE workers SET first_attempt = %(first)s::uuid, last_attempt = %(last)s::uuid, opened_at = now()
WHERE host = %(host)s::text AND slot = %(slot)s::int AND incarnation = %(incarnation)s::bigint
RETURNING slot

-- name: insert_jobs
-- Claims keys and makes rows for the jobs that won theirs; returns those. The losers must be read again in another statement:
-- within this one a concurrent winner is in neither set.
WITH input AS (
    SELECT * FROM unnest(
        %(ids)s::uuid[], %(keys)s::uuid[], %(hashes)s::bytea[], %(tenants)s::bigint[], %(job_ids)s::text[], %(types)s::text[],
        %(templates)s::text[], %(emails)s::text[], %(names)s::text[], %(subjects)s::text[], %(contents)s::text[], %(data)s::text[],
        %(priorities)s::text[], %(lanes)s::text[], %(statuses)s::text[], %(scheduled)s::text[], %(expires)s::text[], %(delays)s::float8[],
        %(retry_counts)s::int[], %(max_retries)s::int[], %(errors)s::text[], %(campaigns)s::text[], %(batches)s::bigint[],
        %(attempt_ids)s::uuid[], %(providers)s::text[]
    ) AS i(id, key, content_hash, tenant_id, job_id, type, template, email, name, subject, content, data, priority, lane, status,
           scheduled_at, expires_at, delay_s, retry_count, max_retries, error, campaign_id, batch_id, attempt_id, provider)
), won AS (
    INSERT INTO email_job_keys (key, id, content_hash)
    SELECT key, id, content_hash FROM input ORDER BY key
    ON CONFLICT (key) DO NOTHING
    RETURNING id
), made AS (
    INSERT INTO email_jobs (
        id, job_id, tenant_id, type, template, recipient_email, recipient_name, subject, content, data, priority, lane, status,
        scheduled_at, expires_at, next_attempt_at, retry_count, max_retries, error_message, campaign_id, batch_id, attempt_id,
        attempts, provider, processed_at, waits)
    SELECT id, job_id, tenant_id, type, template, email, name, subject, content, data::jsonb, priority, lane, status,
           scheduled_at::timestamptz, expires_at::timestamptz,
           CASE status WHEN 'scheduled' THEN scheduled_at::timestamptz ELSE now() + delay_s * interval '1 second' END, retry_count, max_retries, error, campaign_id, batch_id,
           attempt_id, CASE WHEN attempt_id IS NULL THEN 0 ELSE 1 END, provider, CASE WHEN attempt_id IS NOT NULL THEN now() END,
           CASE WHEN status = 'retrying' AND delay_s > 0 THEN 1 ELSE 0 END
    FROM input JOIN won USING (id)
)
SELECT id FROM won

-- name: take_jobs
-- Compare and set: a known job becomes ours only while its newest attempt is the one that we saw.
WITH input AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempt_ids)s::uuid[], %(expected)s::uuid[], %(providers)s::text[], %(subjects)s::text[])
        AS i(id, attempt_id, expected, provider, subject)
), locked AS (
    SELECT j.id FROM email_jobs j
    WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
    ORDER BY j.id FOR UPDATE
)
UPDATE email_jobs j
SET status = 'sending', attempt_id = i.attempt_id, attempts = j.attempts + 1, provider = i.provider, subject = i.subject,
    next_attempt_at = NULL, leased_by = NULL, processed_at = coalesce(j.processed_at, now()), updated_at = now()
FROM input i JOIN locked USING (id)
WHERE j.id = i.id AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
  AND j.attempt_id IS NOT DISTINCT FROM i.expected AND j.status IN ('pending', 'scheduled', 'retrying')
RETURNING j.id

-- name: insert_attempts
-- One row per message, before its request leaves.
INSERT INTO email_attempts (id, job_id, tenant_id, account_tenant, provider, mailbox_provider, cohort_id, number, owner)
SELECT i.id, i.job_id, i.tenant_id, i.account_tenant, i.provider, i.mailbox_provider, i.cohort_id, i.number, %(owner)s::text
FROM unnest(%(ids)s::uuid[], %(job_ids)s::uuid[], %(tenants)s::bigint[], %(account_tenants)s::bigint[], %(providers)s::text[],
            %(mailbox_providers)s::text[], %(cohorts)s::uuid[], %(numbers)s::int[])
    AS i(id, job_id, tenant_id, account_tenant, provider, mailbox_provider, cohort_id, number)

-- name: find_attempts
-- After a commit of which nobody knows whether it happened: which attempts are there?
SELECT a.id FROM email_attempts a WHERE a.id = ANY(%(ids)s::uuid[]) AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: record_attempts
-- What the ESP said; only an attempt without an answer can be answered, so a repeated record changes nothing. An answer that was in
-- hand while others already doubted the attempt (a lost host that was only cut off) is evidence, and wins.
UPDATE email_attempts a
SET state = i.state, message_id = nullif(i.message_id, ''), error = nullif(i.error, ''), answered_at = now()
FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(message_ids)s::text[], %(errors)s::text[]) AS i(id, state, message_id, error)
WHERE a.id = i.id AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND (a.state = 'open' OR a.state = 'uncertain' AND i.state <> 'uncertain')
RETURNING a.id

-- name: note_late_answers
-- An event has proved that these were taken before their answer was recorded; whatever the answer was, only the ESP's id is news.
UPDATE email_attempts a
SET message_id = coalesce(nullif(i.message_id, ''), a.message_id), answered_at = now()
FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(message_ids)s::text[], %(errors)s::text[]) AS i(id, state, message_id, error)
WHERE a.id = i.id AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND a.state = 'accepted' AND a.answered_at IS NULL

-- name: record_jobs
-- Where the jobs stand now. An event may have come first: then only what it did not know is added. A released job is due only where
-- its bytes are: somebody else may have got its record, and stored them, while it was under way here.
UPDATE email_jobs j
SET status = CASE WHEN j.status = 'sending' OR j.status = 'uncertain' THEN i.status ELSE j.status END,
    sent_at = CASE WHEN i.status = 'sent' THEN coalesce(j.sent_at, now()) ELSE j.sent_at END,
    message_id = coalesce(nullif(i.message_id, ''), j.message_id),
    error_message = CASE WHEN j.status = 'sending' OR j.status = 'uncertain' THEN nullif(i.error, '') ELSE j.error_message END,
    retry_count = i.retry_count,
    waits = j.waits + CASE WHEN i.status = 'retrying' AND i.delay_s > 0 THEN 1 ELSE 0 END,
    next_attempt_at = CASE WHEN NOT (j.status = 'sending' OR j.status = 'uncertain') THEN j.next_attempt_at
                           WHEN i.status <> 'pending' OR EXISTS (SELECT FROM email_payloads p WHERE p.id = j.id)
                           THEN now() + i.delay_s * interval '1 second' END,
    updated_at = now()
FROM unnest(%(ids)s::uuid[], %(attempt_ids)s::uuid[], %(statuses)s::text[], %(message_ids)s::text[], %(errors)s::text[],
            %(retry_counts)s::int[], %(delays)s::float8[])
    AS i(id, attempt_id, status, message_id, error, retry_count, delay_s)
WHERE j.id = i.id AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND j.attempt_id = i.attempt_id

-- name: decide_jobs
-- Known jobs that end, or wait, without an attempt: compare and set like take_jobs.
UPDATE email_jobs j
SET status = i.status, error_message = nullif(i.error, ''), leased_by = NULL, updated_at = now(),
    next_attempt_at = now() + i.delay_s * interval '1 second',
    waits = j.waits + CASE WHEN i.status = 'retrying' AND i.delay_s > 0 THEN 1 ELSE 0 END
FROM unnest(%(ids)s::uuid[], %(expected)s::uuid[], %(statuses)s::text[], %(errors)s::text[], %(delays)s::float8[])
    AS i(id, expected, status, error, delay_s)
WHERE j.id = i.id AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
  AND j.attempt_id IS NOT DISTINCT FROM i.expected AND j.status IN ('pending', 'scheduled', 'retrying')
RETURNING j.id

-- name: insert_uncertain
-- Attempts that may have been taken; nothing but evidence or policy removes them.
INSERT INTO uncertain_attempts (attempt_id, job_id, tenant_id, provider, account_tenant, reason)
SELECT * FROM unnest(%(ids)s::uuid[], %(job_ids)s::uuid[], %(tenants)s::bigint[], %(providers)s::text[],
                     %(account_tenants)s::bigint[], %(reasons)s::text[])
ON CONFLICT (attempt_id) DO NOTHING

-- name: delete_uncertain
DELETE FROM uncertain_attempts u WHERE u.attempt_id = ANY(%(ids)s::uuid[])

-- name: add_sent_to_cohorts
-- Counters by writer slot: no two workers ever wait for the same row.
INSERT INTO esp_cohort_stats AS s (cohort_id, provider, mailbox_provider, slot, sent)
SELECT * FROM unnest(%(cohorts)s::uuid[], %(providers)s::text[], %(mailbox_providers)s::text[], %(slots)s::text[], %(counts)s::bigint[])
ON CONFLICT (cohort_id, provider, mailbox_provider, slot) DO UPDATE SET sent = s.sent + excluded.sent

-- name: insert_cohorts
INSERT INTO send_cohorts (id, tenant_id, stream, batch_id)
SELECT * FROM unnest(%(ids)s::uuid[], %(tenants)s::bigint[], %(streams)s::text[], %(batches)s::bigint[])
ON CONFLICT (id) DO NOTHING

-- name: count_statuses
SELECT j.status, count(*) FROM email_jobs j GROUP BY j.status
