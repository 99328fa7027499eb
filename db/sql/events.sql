-- What ESPs report. Locks are taken in one order everywhere: jobs, attempts, cohorts, windows, suppressions, watermarks.

-- name: insert_tracking
-- A row per event, once. The attempt that an event names is believed only where it went out through the account that reports it.
INSERT INTO email_tracking (
    id, occurred_at, attempt_id, job_id, recipient, message_id, provider, event_type, event_data, ip_address, user_agent, is_machine)
SELECT i.id, i.occurred_at, a.id, a.job_id, i.recipient, nullif(i.message_id, ''), i.provider, i.event_type, i.event_data,
       nullif(i.ip, '')::inet, nullif(i.user_agent, ''), i.is_machine
FROM ROWS FROM (
    unnest(%(ids)s::uuid[], %(moments)s::timestamptz[], %(attempt_ids)s::uuid[], %(providers)s::text[], %(account_tenants)s::bigint[],
           %(recipients)s::text[], %(message_ids)s::text[], %(types)s::text[], %(ips)s::text[], %(agents)s::text[], %(machines)s::boolean[]),
    jsonb_array_elements(%(data)s::jsonb)
) AS i(id, occurred_at, attempt_id, provider, account_tenant, recipient, message_id, event_type, ip, user_agent, is_machine, event_data)
LEFT JOIN email_attempts a ON a.id = i.attempt_id AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid
    AND a.provider = i.provider AND a.account_tenant = i.account_tenant
ORDER BY i.occurred_at, i.id
ON CONFLICT (occurred_at, id) DO NOTHING
RETURNING occurred_at, id, job_id

-- name: find_sends
-- The newest sends through the account to each recipient: those with the event's message id first. Only accepted ones: a guess
-- must never settle a doubt.
SELECT i.number, s.id, s.message_id
FROM unnest(%(numbers)s::int[], %(providers)s::text[], %(account_tenants)s::bigint[], %(recipients)s::text[], %(message_ids)s::text[])
    AS i(number, provider, account_tenant, recipient, message_id)
CROSS JOIN LATERAL (
    SELECT a.id, a.message_id
    FROM email_jobs j JOIN email_attempts a ON a.job_id = j.id
    WHERE lower(j.recipient_email) = i.recipient AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
      AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid
      AND a.provider = i.provider AND a.account_tenant = i.account_tenant AND a.state = 'accepted'
    ORDER BY (a.message_id = i.message_id) IS TRUE DESC, a.id DESC
    LIMIT %(limit)s::int
) s
ORDER BY i.number, (s.message_id = i.message_id) IS TRUE DESC, s.id DESC

-- name: find_unsettled
-- Which of these attempts are not on record as taken.
SELECT a.id FROM email_attempts a
WHERE a.id = ANY(%(ids)s::uuid[]) AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND a.state <> 'accepted'

-- name: lock_reported_jobs
-- The jobs that events speak of, locked in order.
SELECT j.id, j.job_id, j.tenant_id, j.recipient_email, j.campaign_id, j.status, j.attempt_id, j.attempts, j.message_id,
       j.delivered_at, j.opened_at, j.clicked_at
FROM email_jobs j
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
ORDER BY j.id FOR UPDATE

-- name: read_attempts
-- Attempts as they stand; their jobs are locked, so nobody else applies events to them.
SELECT a.id, a.job_id, a.provider, a.account_tenant, a.mailbox_provider, a.cohort_id, a.state, a.answered_at IS NOT NULL AND a.error IS NULL, a.message_id, a.reported,
       a.bounce_class, a.delivered_at, a.opened_first_at, a.machine_opened_at, a.clicked_first_at, a.bounced_at, a.complained_at
FROM email_attempts a
WHERE a.id = ANY(%(ids)s::uuid[]) AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: read_siblings
-- All attempts of jobs that have several.
SELECT a.id, a.job_id, a.provider, a.account_tenant, a.mailbox_provider, a.cohort_id, a.state, a.answered_at IS NOT NULL AND a.error IS NULL, a.message_id, a.reported,
       a.bounce_class, a.delivered_at, a.opened_first_at, a.machine_opened_at, a.clicked_first_at, a.bounced_at, a.complained_at
FROM email_attempts a
WHERE a.job_id = ANY(%(ids)s::uuid[]) AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: read_looks
-- Every open and click of these attempts, for a judgement that has to be made again.
SELECT t.attempt_id, t.event_type, t.occurred_at, t.is_machine, t.recipient
FROM email_tracking t
WHERE t.job_id = ANY(%(ids)s::uuid[]) AND t.attempt_id = ANY(%(attempt_ids)s::uuid[]) AND t.event_type = ANY(%(types)s::text[])
  AND t.occurred_at >= %(since)s::timestamptz

-- name: update_reported_attempts
UPDATE email_attempts a
SET state = i.state, message_id = i.message_id, reported = i.reported, bounce_class = i.bounce_class, delivered_at = i.delivered_at,
    opened_first_at = i.opened, machine_opened_at = i.machine_opened, clicked_first_at = i.clicked, bounced_at = i.bounced,
    complained_at = i.complained
FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(message_ids)s::text[], %(reported)s::text[], %(bounce_classes)s::text[],
            %(delivered)s::timestamptz[], %(opened)s::timestamptz[], %(machine_opened)s::timestamptz[], %(clicked)s::timestamptz[],
            %(bounced)s::timestamptz[], %(complained)s::timestamptz[])
    AS i(id, state, message_id, reported, bounce_class, delivered_at, opened, machine_opened, clicked, bounced, complained)
WHERE a.id = i.id AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: update_reported_jobs
-- Where the jobs stand by what was reported. A settled one leaves every queue.
UPDATE email_jobs j
SET status = i.status, message_id = i.message_id, delivered_at = i.delivered_at, opened_at = i.opened_at, clicked_at = i.clicked_at,
    sent_at = coalesce(j.sent_at, i.sent_at),
    next_attempt_at = CASE WHEN i.is_settled THEN NULL ELSE j.next_attempt_at END,
    leased_by = CASE WHEN i.is_settled THEN NULL ELSE j.leased_by END,
    error_message = CASE WHEN i.is_settled THEN NULL ELSE j.error_message END,
    updated_at = now()
FROM unnest(%(ids)s::uuid[], %(statuses)s::text[], %(message_ids)s::text[], %(delivered)s::timestamptz[], %(opened)s::timestamptz[],
            %(clicked)s::timestamptz[], %(sent)s::timestamptz[], %(settled)s::boolean[])
    AS i(id, status, message_id, delivered_at, opened_at, clicked_at, sent_at, is_settled)
WHERE j.id = i.id AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: forget_doubts
-- These jobs are settled: nobody has to decide about their attempts any more.
DELETE FROM uncertain_attempts u WHERE u.job_id = ANY(%(ids)s::uuid[])

-- name: add_reports_to_cohorts
-- Counters by writer slot: no two workers ever wait for the same row. A judgement that changed takes back what it had added.
INSERT INTO esp_cohort_stats AS s (
    cohort_id, provider, mailbox_provider, slot, sent, delivered, opened, opened_machine, clicked, bounced, bounced_hard, complained)
SELECT * FROM unnest(%(cohorts)s::uuid[], %(providers)s::text[], %(mailbox_providers)s::text[], %(slots)s::text[], %(sent)s::bigint[],
                     %(delivered)s::bigint[], %(opened)s::bigint[], %(opened_machine)s::bigint[], %(clicked)s::bigint[],
                     %(bounced)s::bigint[], %(bounced_hard)s::bigint[], %(complained)s::bigint[])
ON CONFLICT (cohort_id, provider, mailbox_provider, slot) DO UPDATE
SET sent = s.sent + excluded.sent, delivered = s.delivered + excluded.delivered, opened = s.opened + excluded.opened,
    opened_machine = s.opened_machine + excluded.opened_machine, clicked = s.clicked + excluded.clicked,
    bounced = s.bounced + excluded.bounced, bounced_hard = s.bounced_hard + excluded.bounced_hard,
    complained = s.complained + excluded.complained

-- name: insert_unmatched
INSERT INTO unmatched_events (id, occurred_at, provider, account_tenant, attempt_id, message_id, recipient, event, check_at)
SELECT i.id, i.occurred_at, i.provider, i.account_tenant, i.attempt_id, i.message_id, i.recipient, i.event,
       now() + %(first_check_s)s::float8 * interval '1 second'
FROM unnest(%(ids)s::uuid[], %(moments)s::timestamptz[], %(providers)s::text[], %(account_tenants)s::bigint[], %(attempt_ids)s::uuid[],
            %(message_ids)s::text[], %(recipients)s::text[], %(events)s::text[])
    AS i(id, occurred_at, provider, account_tenant, attempt_id, message_id, recipient, event)
ORDER BY i.id
ON CONFLICT (id) DO NOTHING

-- name: has_unmatched
-- The record step's first question, nearly always answered no.
SELECT EXISTS (SELECT FROM unmatched_events u WHERE u.found_attempt IS NULL)

-- name: find_awaited
-- Which of these recipients an unmatched event speaks of. The limit keeps the planner at the index, whatever it believes about a
-- table that fills and empties within minutes.
SELECT i.recipient FROM unnest(%(recipients)s::text[]) AS i(recipient)
CROSS JOIN LATERAL (
    SELECT FROM unmatched_events u WHERE u.recipient = i.recipient AND u.attempt_id IS NULL AND u.found_attempt IS NULL LIMIT 1
) waiting

-- name: bind_unmatched
-- Events that came before their send was recorded get its attempt: by recipient and message id, else by recipient alone. (One that
-- names its attempt found it open when it came.) Rows that a webhook worker is looking at are left to it.
WITH found AS (
    SELECT DISTINCT ON (u.id) u.id, s.id AS attempt_id
    FROM unnest(%(ids)s::uuid[], %(providers)s::text[], %(account_tenants)s::bigint[], %(message_ids)s::text[],
                %(recipients)s::text[], %(since)s::timestamptz[])
        AS s(id, provider, account_tenant, message_id, recipient, since)
    CROSS JOIN LATERAL (
        SELECT w.id, w.message_id FROM unmatched_events w
        WHERE w.recipient = s.recipient AND w.provider = s.provider AND w.account_tenant = s.account_tenant
          AND w.attempt_id IS NULL AND w.found_attempt IS NULL AND w.occurred_at >= s.since
          AND (w.message_id = s.message_id OR w.message_id = '' OR s.message_id = '')
        LIMIT 100
    ) u
    ORDER BY u.id, (u.message_id = s.message_id) DESC, s.id DESC
), free AS (
    SELECT u.id FROM unmatched_events u
    WHERE u.id = ANY(ARRAY(SELECT f.id FROM found f)) AND u.found_attempt IS NULL
    ORDER BY u.id FOR UPDATE SKIP LOCKED
)
UPDATE unmatched_events u SET found_attempt = f.attempt_id, check_at = now()
FROM found f JOIN free USING (id)
WHERE u.id = f.id

-- name: take_unmatched
-- Unmatched events whose time to be looked at has come, locked against everybody else. The last column: is it their last chance?
SELECT u.id, u.occurred_at, u.account_tenant, coalesce(u.found_attempt, u.attempt_id), u.event,
       u.arrived_at < now() - %(keep_s)s::float8 * interval '1 second'
FROM unmatched_events u WHERE u.check_at <= now()
ORDER BY u.check_at LIMIT %(limit)s::int
FOR UPDATE SKIP LOCKED

-- name: find_accounts_attempts
-- Which of these attempts went out through the account that is given for each, and for which job.
SELECT i.id, i.provider, i.account_tenant, a.job_id
FROM unnest(%(ids)s::uuid[], %(providers)s::text[], %(account_tenants)s::bigint[]) AS i(id, provider, account_tenant)
JOIN email_attempts a ON a.id = i.id AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid
    AND a.provider = i.provider AND a.account_tenant = i.account_tenant

-- name: join_tracking
-- Tracking rows that have found their attempt.
UPDATE email_tracking t SET job_id = i.job_id, attempt_id = i.attempt_id
FROM unnest(%(ids)s::uuid[], %(moments)s::timestamptz[], %(job_ids)s::uuid[], %(attempt_ids)s::uuid[]) AS i(id, occurred_at, job_id, attempt_id)
WHERE t.id = i.id AND t.occurred_at = i.occurred_at
  AND t.occurred_at BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz

-- name: postpone_unmatched
UPDATE unmatched_events u SET check_at = u.arrived_at + %(keep_s)s::float8 * interval '1 second', found_attempt = NULL
WHERE u.id = ANY(%(ids)s::uuid[])

-- name: delete_unmatched
DELETE FROM unmatched_events u WHERE u.id = ANY(%(ids)s::uuid[])

-- name: delete_tracking
DELETE FROM email_tracking t
USING unnest(%(ids)s::uuid[], %(moments)s::timestamptz[]) AS i(id, occurred_at)
WHERE t.id = i.id AND t.occurred_at = i.occurred_at
  AND t.occurred_at BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz

-- name: raise_watermarks
-- The newest time that events of an account were applied for; never beyond this database's clock.
INSERT INTO webhook_watermarks AS w (provider, account_tenant, newest_at)
SELECT i.provider, i.account_tenant, least(i.newest_at, now())
FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(moments)s::timestamptz[]) AS i(provider, account_tenant, newest_at)
ORDER BY i.provider, i.account_tenant
ON CONFLICT (provider, account_tenant) DO UPDATE SET newest_at = greatest(w.newest_at, excluded.newest_at), updated_at = now()

-- name: note_progress
-- Up to when what was in each partition is applied; NULL = nothing new is known, but that the partition is there.
INSERT INTO webhook_progress AS p (topic, partition, applied_until)
SELECT i.topic, i.partition, i.applied_until
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(moments)s::timestamptz[]) AS i(topic, partition, applied_until)
ORDER BY i.topic, i.partition
ON CONFLICT (topic, partition) DO UPDATE SET applied_until = greatest(p.applied_until, excluded.applied_until), updated_at = now()

-- name: read_watermarks
SELECT w.provider, w.account_tenant, w.newest_at FROM webhook_watermarks w

-- name: read_watermark_ages
SELECT w.provider, w.account_tenant, greatest(0, EXTRACT(EPOCH FROM now() - w.newest_at))::float8 FROM webhook_watermarks w

-- name: find_applied
-- Up to when all that was in each topic is applied: the least of its partitions, and nothing where one has said nothing yet.
SELECT p.topic, min(p.applied_until) FROM webhook_progress p
GROUP BY p.topic HAVING bool_and(p.applied_until IS NOT NULL)

-- name: sweep_progress
-- Partitions of which nobody has said anything for long, while others of their topic are read: they are no more.
DELETE FROM webhook_progress p
WHERE p.updated_at < now() - %(days)s::int * interval '1 day' AND EXISTS (
    SELECT FROM webhook_progress o WHERE o.topic = p.topic AND o.updated_at >= now() - interval '1 hour')
