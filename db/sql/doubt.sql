-- Uncertain attempts: looked at by keepers, and settled by evidence, policy or somebody's decision. Events and late answers settle
-- them in their own statements. Locks as everywhere: jobs before all else.

-- name: list_uncertain
-- The oldest first, behind the one that is given. NULL = any; `older_s`: in doubt for at least so many seconds.
SELECT u.attempt_id, u.job_id, j.job_id, u.tenant_id, u.provider, u.account_tenant, u.reason, u.since, j.type, j.template, a.number,
       u.waits_for, u.awaited, w.newest_at
FROM uncertain_attempts u
JOIN email_jobs j ON j.id = u.job_id
JOIN email_attempts a ON a.id = u.attempt_id
LEFT JOIN webhook_watermarks w ON w.provider = u.provider AND w.account_tenant = u.account_tenant
WHERE (%(ids)s::uuid[] IS NULL OR u.attempt_id = ANY(%(ids)s::uuid[]))
  AND (%(provider)s::text IS NULL OR u.provider = %(provider)s::text)
  AND (%(account_tenant)s::bigint IS NULL OR u.account_tenant = %(account_tenant)s::bigint)
  AND (%(template)s::text IS NULL OR j.template = %(template)s::text)
  AND u.since <= now() - %(older_s)s::float8 * interval '1 second'
  AND (%(after_id)s::uuid IS NULL OR (u.since, u.attempt_id) > (%(after)s::timestamptz, %(after_id)s::uuid))
ORDER BY u.since, u.attempt_id LIMIT %(limit)s::int

-- name: lease_doubts
-- Doubts that nobody looked at lately and whose grace is over, for one keeper: the others leave them alone until the look has ended
-- or its keeper is dead. `is_among`: those of the given accounts, or those of all others.
WITH due AS (
    SELECT u.attempt_id FROM uncertain_attempts u
    WHERE u.check_at <= %(now)s::timestamptz AND u.since <= %(now)s::timestamptz - %(grace_s)s::float8 * interval '1 second'
      AND %(is_among)s::boolean = EXISTS (
          SELECT FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[]) AS i(provider, account_tenant)
          WHERE i.provider = u.provider AND i.account_tenant = u.account_tenant)
    ORDER BY u.check_at, u.attempt_id LIMIT %(limit)s::int
    FOR UPDATE SKIP LOCKED
)
UPDATE uncertain_attempts u SET check_at = %(now)s::timestamptz + %(lease_s)s::float8 * interval '1 second'
FROM due WHERE u.attempt_id = due.attempt_id
RETURNING u.attempt_id, u.job_id

-- name: read_doubts
-- What a decision about these attempts has to know, of those that are still in doubt and their job's newest. Where its cohort is
-- unknown, an email counts as marketing, of which less is sent.
SELECT u.attempt_id, u.job_id, u.provider, u.account_tenant, u.since, u.passed_at, j.job_id, j.tenant_id, j.recipient_email, j.campaign_id,
       a.cohort_id, a.mailbox_provider, coalesce(c.stream, 'marketing') = 'marketing', j.resent_at IS NOT NULL, j.cancel_asked_at IS NOT NULL,
       EXISTS (SELECT FROM email_payloads p WHERE p.id = u.job_id)
FROM uncertain_attempts u
JOIN email_jobs j ON j.id = u.job_id AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
JOIN email_attempts a ON a.id = u.attempt_id AND a.id BETWEEN %(first)s::uuid AND %(last)s::uuid
LEFT JOIN send_cohorts c ON c.id = a.cohort_id
WHERE u.attempt_id = ANY(%(attempt_ids)s::uuid[]) AND j.status = 'uncertain' AND j.attempt_id = u.attempt_id
ORDER BY u.attempt_id

-- name: note_waiting
-- Nothing could be decided: what is waited for, and when somebody looks again.
UPDATE uncertain_attempts u
SET waits_for = i.waits_for, awaited = i.awaited, passed_at = i.passed_at,
    check_at = %(now)s::timestamptz + i.again_s * interval '1 second'
FROM unnest(%(ids)s::uuid[], %(reasons)s::text[], %(awaited)s::timestamptz[], %(passed)s::timestamptz[], %(again)s::float8[])
    AS i(attempt_id, waits_for, awaited, passed_at, again_s)
WHERE u.attempt_id = i.attempt_id

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

-- name: bind_resends
-- Sent again by policy while the first attempt stays in doubt: once, and through no other ESP.
UPDATE email_jobs j SET resent_at = %(now)s::timestamptz, only_provider = j.provider
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: forget_old_doubts
-- Older than any job that is still here.
DELETE FROM uncertain_attempts u WHERE u.since < now() - %(days)s::int * interval '1 day'

-- name: count_held
-- Doubts whose grace is over and that wait for something, by what.
SELECT u.provider, u.waits_for, count(*) FROM uncertain_attempts u WHERE u.waits_for <> 'grace' GROUP BY 1, 2 ORDER BY 1, 2

-- name: confirm_duplicates
-- Jobs of which more than one attempt was taken and not dropped; each is told once, to whoever learns of it first. Their rows are locked.
INSERT INTO confirmed_duplicates (job_id, provider)
SELECT a.job_id, (array_agg(a.provider ORDER BY a.number))[1]
FROM email_attempts a
WHERE a.job_id = ANY(%(ids)s::uuid[]) AND a.id BETWEEN %(low)s::uuid AND %(high)s::uuid
  AND a.state = 'accepted' AND a.reported IS DISTINCT FROM 'dropped'
GROUP BY a.job_id HAVING count(*) > 1 ORDER BY a.job_id
ON CONFLICT (job_id) DO NOTHING
RETURNING provider

-- name: add_duplicates
INSERT INTO duplicate_counts AS d (provider, jobs)
SELECT i.provider, i.jobs FROM unnest(%(providers)s::text[], %(counts)s::bigint[]) AS i(provider, jobs) ORDER BY i.provider
ON CONFLICT (provider) DO UPDATE SET jobs = d.jobs + excluded.jobs

-- name: count_duplicates
SELECT d.provider, d.jobs FROM duplicate_counts d ORDER BY d.provider

-- name: forget_old_duplicates
DELETE FROM confirmed_duplicates c WHERE c.at < now() - %(days)s::int * interval '1 day'

-- name: find_payloads
SELECT p.id, p.body_hash, p.record_index, p.source FROM email_payloads p WHERE p.id = ANY(%(ids)s::uuid[])
