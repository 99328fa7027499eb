-- All that is on record of one email, for whoever asks afterwards. Only reads: by an id, or within a bounded time.

-- name: find_by_own_id
-- Ids of ours: an attempt's, a row's, a dead letter's. Each table is asked in the one partition that the id can be in.
SELECT 'attempt id', a.job_id, NULL::uuid FROM email_attempts a WHERE a.id = %(id)s::uuid
UNION ALL SELECT 'row id', j.id, NULL::uuid FROM email_jobs j WHERE j.id = %(id)s::uuid
UNION ALL SELECT 'dead letter id', d.row_id, d.id FROM dead_letters d WHERE d.id = %(id)s::uuid

-- name: find_tenant_ids
-- Every tenant that is set up here or has ever sent.
SELECT 0::bigint UNION SELECT u.id FROM users u UNION SELECT p.tenant_id FROM email_service_providers p
UNION SELECT c.tenant_id FROM send_cohorts c

-- name: find_by_message_id
-- An ESP's id of a message. No index has it, since that would cost every send: all attempts between two ids are read, a day at a time.
SELECT a.job_id, a.tenant_id FROM email_attempts a
WHERE a.message_id = %(message_id)s::text AND a.id >= %(low)s::uuid AND a.id < %(high)s::uuid AND (%(tenant)s::bigint IS NULL OR a.tenant_id = %(tenant)s::bigint)

-- name: find_nameless_letters
-- Dead letters of records of which no email was ever made, by the job id that could be read of them.
SELECT DISTINCT d.tenant_id FROM dead_letters d
WHERE d.job_id = %(job_id)s::text AND d.row_id IS NULL AND d.created_at >= now() - %(days)s::float8 * interval '1 day'
  AND (%(tenant)s::bigint IS NULL OR d.tenant_id = %(tenant)s::bigint)
ORDER BY 1

-- name: read_life
-- The row and what hangs on it by its id.
SELECT j.id, j.job_id, j.tenant_id, j.type, j.template, j.recipient_email, j.recipient_name, j.subject, j.priority, j.lane, j.status,
       j.scheduled_at, j.expires_at, j.sent_at, j.created_at, j.updated_at, j.retry_count, j.max_retries, j.error_message, j.provider,
       j.campaign_id, j.batch_id, j.attempt_id, j.generation, j.next_attempt_at, j.leased_by, j.revived_at, j.waits, j.cancel_asked_at,
       j.resent_at, j.only_provider, p.id IS NOT NULL, p.source, c.at, b.plan
FROM email_jobs j
LEFT JOIN email_payloads p ON p.id = j.id
LEFT JOIN confirmed_duplicates c ON c.job_id = j.id
LEFT JOIN email_batches b ON b.batch_id = j.batch_id AND j.batch_id <> 0
WHERE j.id = %(id)s::uuid

-- name: read_tries
-- Its attempts, and the weights that had been computed last when each was opened: the row for its mailbox provider, its tenant's,
-- then the service's two, as the router looks for them.
SELECT a.id, a.number, a.provider, a.account_tenant, a.mailbox_provider, c.stream, a.state, a.message_id, a.owner, a.opened_at,
       a.answered_at, a.reported, a.bounce_class, a.error, w.id, w.row
FROM email_attempts a
LEFT JOIN send_cohorts c ON c.id = a.cohort_id
LEFT JOIN LATERAL (
    SELECT s.id, coalesce(s.weights #> ARRAY[a.tenant_id::text, a.mailbox_provider], s.weights #> ARRAY[a.tenant_id::text, '*'],
                          s.weights #> ARRAY['0', a.mailbox_provider], s.weights #> ARRAY['0', '*']) AS row
    FROM esp_weights s WHERE s.computed_at <= a.opened_at ORDER BY s.id DESC LIMIT 1) w ON true
WHERE a.job_id = %(id)s::uuid AND a.id >= %(low)s::uuid
ORDER BY a.number, a.id

-- name: read_reports
SELECT t.occurred_at, t.event_type, t.provider, t.attempt_id, t.recipient, t.is_machine, t.event_data
FROM email_tracking t
WHERE t.job_id = %(id)s::uuid AND t.occurred_at >= %(since)s::timestamptz
ORDER BY t.occurred_at, t.event_type, t.id LIMIT %(limit)s::int

-- name: read_letters
-- Dead letters of a row before those of the same id that came again, the newest first; or one by its own id.
SELECT d.id, d.reason, d.error, d.job_id, d.tenant_id, d.row_id, d.source, d.attempts, d.created_at, d.replayed_at, d.value IS NOT NULL
FROM dead_letters d
WHERE d.id = %(letter_id)s::uuid
   OR d.created_at >= coalesce(%(came_at)s::timestamptz, now()) - %(days)s::float8 * interval '1 day'
      AND (d.row_id = %(row_id)s::uuid OR d.job_id = %(job_id)s::text AND d.tenant_id = %(tenant)s::bigint)
ORDER BY d.row_id IS NULL, d.created_at DESC, d.id LIMIT 100

-- name: read_audit
-- What somebody decided about it. The log's ids rise with time, but no index knows times: the whole log is read.
SELECT a.at, a.actor, a.action FROM audit_log a
WHERE a.at >= %(since)s::timestamptz AND (
    a.details->'attempts' ?| %(attempt_ids)s::text[]
    OR a.action LIKE 'dlq %%' AND a.details->'ids' ?| %(letter_ids)s::text[]
    OR a.action = 'cancel' AND a.details->'tenant' = to_jsonb(%(tenant)s::bigint) AND a.details->'jobs' ? %(job_id)s::text
    OR a.subject = ANY(%(subjects)s::text[]))
ORDER BY a.id DESC LIMIT 100

-- name: read_unpublished
-- Its news that Kafka has not got yet. No event of an email is older than its row; a long outbox is looked at in part.
SELECT p.value FROM (
    SELECT o.id, o.keys, o.values FROM outbox o WHERE o.id >= %(low)s::uuid ORDER BY o.id LIMIT 2000) o
CROSS JOIN LATERAL unnest(o.keys, o.values) AS p(key, value)
WHERE p.key = %(job_id)s::text
ORDER BY o.id LIMIT 20

-- name: read_owner
-- The newest incarnation of the slot that opened an attempt, and up to when its host may send.
SELECT w.incarnation, h.lease_until FROM workers w LEFT JOIN worker_hosts h ON h.host = w.host
WHERE w.host = %(host)s::text AND w.slot = %(slot)s::int
