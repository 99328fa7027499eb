-- Uncertain attempts: looked at, and settled by somebody's decision. Evidence settles them in the record and event statements.

-- name: list_uncertain
-- The oldest first. `older_s`: in doubt for at least so many seconds.
SELECT u.attempt_id, u.job_id, j.job_id, u.tenant_id, u.provider, u.reason, u.since, j.type, a.number
FROM uncertain_attempts u
JOIN email_jobs j ON j.id = u.job_id
JOIN email_attempts a ON a.id = u.attempt_id
WHERE (%(ids)s::uuid[] IS NULL OR u.attempt_id = ANY(%(ids)s::uuid[]))
  AND (%(provider)s::text IS NULL OR u.provider = %(provider)s::text)
  AND u.since <= now() - %(older_s)s::float8 * interval '1 second'
ORDER BY u.since, u.attempt_id LIMIT %(limit)s::int

-- name: take_uncertain
-- Each of these is decided by one transaction only; an answer that came meanwhile has taken its row away already. What shall be sent
-- again stays in doubt while its bytes are not here.
DELETE FROM uncertain_attempts u
WHERE u.attempt_id = ANY(%(ids)s::uuid[])
  AND (%(status)s::text <> 'pending' OR EXISTS (SELECT FROM email_payloads p WHERE p.id = u.job_id))
RETURNING u.attempt_id

-- name: decide_attempts
UPDATE email_attempts a SET state = %(state)s::text, error = %(error)s::text, answered_at = now()
WHERE a.id = ANY(%(ids)s::uuid[]) AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND a.state = 'uncertain'
RETURNING a.cohort_id, a.provider, a.mailbox_provider

-- name: decide_uncertain_jobs
-- Only while the doubted attempt is the job's newest. A resend is due at once.
UPDATE email_jobs j
SET status = %(status)s::text, error_message = %(error)s::text, updated_at = now(),
    sent_at = CASE WHEN %(status)s::text = 'sent' THEN coalesce(j.sent_at, now()) ELSE j.sent_at END,
    next_attempt_at = CASE WHEN %(status)s::text = 'pending' THEN now() END
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
  AND j.status = 'uncertain' AND j.attempt_id = ANY(%(attempt_ids)s::uuid[])
RETURNING j.id

-- name: find_payloads
SELECT p.id, p.body_hash, p.record_index, p.source FROM email_payloads p WHERE p.id = ANY(%(ids)s::uuid[])
