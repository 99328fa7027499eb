-- Slots, hosts and what their deaths leave behind.

-- name: claim_slot
-- A new incarnation takes the slot. It waits for any opening transaction of the old one, and none can follow: that is the fence.
INSERT INTO workers AS w (host, slot, boot_id, pid) VALUES (%(host)s::text, %(slot)s::int, %(boot_id)s::uuid, %(pid)s::int)
ON CONFLICT (host, slot) DO UPDATE
SET incarnation = w.incarnation + 1, boot_id = excluded.boot_id, pid = excluded.pid, started_at = now()
RETURNING w.incarnation, w.first_attempt, w.last_attempt

-- name: find_slots
SELECT w.slot FROM workers w WHERE w.host = %(host)s::text ORDER BY w.slot

-- name: forget_slot
DELETE FROM workers w WHERE w.host = %(host)s::text AND w.slot = %(slot)s::int AND w.incarnation = %(incarnation)s::bigint

-- name: find_open_attempts
-- The attempts that a dead incarnation of a slot opened and never answered.
SELECT a.id, a.job_id, a.tenant_id, a.provider, a.account_tenant, a.mailbox_provider, a.cohort_id, j.job_id, j.recipient_email, j.campaign_id, j.retry_count
FROM email_attempts a JOIN email_jobs j ON j.id = a.job_id
WHERE a.id BETWEEN %(first)s::uuid AND %(last)s::uuid AND a.state = 'open' AND a.owner LIKE %(owners)s::text
ORDER BY a.job_id

-- name: release_jobs
-- Certainly not sent: the job may be sent at once, by whoever has its bytes.
UPDATE email_jobs j
SET status = 'pending', updated_at = now(), error_message = NULL,
    next_attempt_at = CASE WHEN EXISTS (SELECT FROM email_payloads p WHERE p.id = j.id) THEN now() END
FROM unnest(%(ids)s::uuid[], %(attempt_ids)s::uuid[]) AS i(id, attempt_id)
WHERE j.id = i.id AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND j.attempt_id = i.attempt_id AND j.status = 'sending'

-- name: renew_host_lease
INSERT INTO worker_hosts AS h (host, lease_until, boot_id)
VALUES (%(host)s::text, now() + %(lease_s)s::float8 * interval '1 second', %(boot_id)s::uuid)
ON CONFLICT (host) DO UPDATE SET lease_until = excluded.lease_until, boot_id = excluded.boot_id, updated_at = now()

-- name: find_lost_hosts
-- Hosts whose lease ran out longer ago than any request can last.
SELECT h.host FROM worker_hosts h WHERE h.lease_until < now() - %(margin_s)s::float8 * interval '1 second'

-- name: forget_host
DELETE FROM worker_hosts h WHERE h.host = %(host)s::text AND h.lease_until < now() - %(margin_s)s::float8 * interval '1 second'

-- name: add_suspect
INSERT INTO crash_suspects AS s (record) VALUES (%(record)s::text)
ON CONFLICT (record) DO UPDATE SET deaths = s.deaths + 1, last_at = now()
RETURNING s.deaths

-- name: find_suspects
SELECT s.record, s.deaths FROM crash_suspects s WHERE s.last_at > now() - interval '7 days'

-- name: forget_suspects
DELETE FROM crash_suspects s WHERE s.record = ANY(%(records)s::text[])
