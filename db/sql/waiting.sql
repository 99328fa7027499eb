-- Rows that wait: leases, payloads, dead letters and the outbox.

-- name: lease_due
-- Takes due rows of a lane for one slot; whoever opens an attempt ends the lease, and a lease that runs out makes the row due again.
WITH due AS (
    SELECT j.id FROM email_jobs j
    WHERE j.lane = %(lane)s::text AND j.next_attempt_at <= now()
    ORDER BY j.next_attempt_at LIMIT %(limit)s::int
    FOR UPDATE SKIP LOCKED
)
UPDATE email_jobs j SET next_attempt_at = now() + %(lease_s)s::float8 * interval '1 second', leased_by = %(owner)s::text
FROM due WHERE j.id = due.id
RETURNING j.id

-- name: load_due
-- What a leased row is: its standing, and where its original bytes are.
SELECT j.id, j.lane, j.status, j.attempt_id, j.attempts, j.retry_count, j.generation, j.provider,
       EXTRACT(EPOCH FROM now() - greatest(j.created_at, j.scheduled_at, j.revived_at))::float8, j.only_provider, j.waits,
       j.cancel_asked_at IS NOT NULL, p.body_hash, p.record_index, p.source
FROM email_jobs j
LEFT JOIN email_payloads p ON p.id = j.id
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: release_leases
-- The rows that a dead predecessor of this slot had taken are due at once.
UPDATE email_jobs j SET next_attempt_at = now(), leased_by = NULL WHERE j.leased_by = %(owner)s::text

-- name: lock_jobs
-- Locks rows in order; the statement after it sees what was committed meanwhile.
SELECT j.id, j.status FROM email_jobs j
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
ORDER BY j.id FOR UPDATE

-- name: insert_bodies
-- A body that is there already is young again, so that the sweep cannot take it before its new payload is committed.
INSERT INTO email_payload_bodies (hash, body)
SELECT * FROM unnest(%(hashes)s::bytea[], %(bodies)s::bytea[]) AS i(hash, body) ORDER BY hash
ON CONFLICT (hash) DO UPDATE SET created_at = now()

-- name: insert_payloads
INSERT INTO email_payloads (id, body_hash, record_index, source)
SELECT i.id, i.hash, i.record_index, i.source::jsonb
FROM unnest(%(ids)s::uuid[], %(hashes)s::bytea[], %(indexes)s::int[], %(sources)s::text[]) AS i(id, hash, record_index, source)
ORDER BY i.id
ON CONFLICT (id) DO NOTHING

-- name: wake_released
-- A job that was released while nobody held its bytes waits for them; now that they are stored, it is due.
UPDATE email_jobs j SET next_attempt_at = now(), updated_at = now()
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
  AND j.status = 'pending' AND j.next_attempt_at IS NULL
  AND EXISTS (SELECT FROM email_payloads p WHERE p.id = j.id)

-- name: find_bodies
SELECT hash, body FROM email_payload_bodies WHERE hash = ANY(%(hashes)s::bytea[])

-- name: delete_payloads
DELETE FROM email_payloads WHERE id = ANY(%(ids)s::uuid[])

-- name: sweep_payloads
-- Payloads whose job is over (another worker finished it after we stored them).
DELETE FROM email_payloads p USING email_jobs j
WHERE j.id = p.id AND j.status NOT IN ('pending', 'scheduled', 'sending', 'retrying', 'uncertain') AND p.created_at < now() - interval '1 minute'

-- name: sweep_bodies
-- Bodies that no payload refers to. The margin leaves time between storing a body and storing its payloads.
DELETE FROM email_payload_bodies b
WHERE b.created_at < now() - interval '15 minutes' AND NOT EXISTS (SELECT FROM email_payloads p WHERE p.body_hash = b.hash)

-- name: wake_forgotten
-- The last net: a released row whose bytes are here but that is in nobody's queue.
UPDATE email_jobs j SET next_attempt_at = now()
FROM email_payloads p
WHERE p.id = j.id AND j.status = 'pending' AND j.next_attempt_at IS NULL AND j.updated_at < now() - interval '30 seconds'

-- name: insert_dead_letters
INSERT INTO dead_letters (id, reason, error, job_id, tenant_id, row_id, record_index, source, value, attempts)
SELECT i.id, i.reason, i.error, i.job_id, i.tenant_id, i.row_id, i.record_index, i.source::jsonb, i.value, i.attempts
FROM unnest(%(ids)s::uuid[], %(reasons)s::text[], %(errors)s::text[], %(job_ids)s::text[], %(tenants)s::bigint[], %(row_ids)s::uuid[],
            %(indexes)s::int[], %(sources)s::text[], %(values)s::bytea[], %(attempts)s::int[])
    AS i(id, reason, error, job_id, tenant_id, row_id, record_index, source, value, attempts)
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: insert_outbox
INSERT INTO outbox (id, topic, keys, values)
VALUES (%(id)s::uuid, %(topic)s::text, %(keys)s::text[], string_to_array(%(values)s::text, E'\n'))
ON CONFLICT (id) DO NOTHING

-- name: delete_outbox
DELETE FROM outbox WHERE id = ANY(%(ids)s::uuid[])

-- name: find_stale_outbox
-- What its worker did not publish soon after its commit.
SELECT id, topic, keys, values FROM outbox
WHERE created_at < now() - %(age_s)s::float8 * interval '1 second'
ORDER BY id LIMIT %(limit)s::int

-- name: forget_old_keys
-- Older than any record that Kafka can still bring.
DELETE FROM email_job_keys k
WHERE k.seen_at < now() - %(days)s::int * interval '1 day'
  AND NOT EXISTS (SELECT FROM email_payloads p WHERE p.id = k.id)

-- name: forget_old_cohorts
DELETE FROM send_cohorts c WHERE c.started_at < now() - %(days)s::int * interval '1 day'

-- name: forget_lost_counters
-- Those of cohorts that are gone, with what late events have added since.
DELETE FROM esp_cohort_stats s WHERE NOT EXISTS (SELECT FROM send_cohorts c WHERE c.id = s.cohort_id)
