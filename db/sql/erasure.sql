-- Forgetting a person: what is known of an address is taken out of every table.

-- name: find_mentioning_jobs
-- Others' emails of which something that was kept names the person. Every row is looked at, and none is locked meanwhile.
SELECT j.id FROM email_jobs j, lower(concat_ws(' ', j.content, j.data::text, j.error_message)) AS words
WHERE position(%(address)s::text IN words) > 0 AND words ~ %(pattern)s::text

-- name: find_mentioning_attempts
SELECT a.id FROM email_attempts a WHERE position(%(address)s::text IN lower(a.error)) > 0 AND lower(a.error) ~ %(pattern)s::text

-- name: lock_persons_jobs
-- Theirs, and with them others' emails that name them.
SELECT j.id, j.tenant_id, j.job_id, lower(j.recipient_email) = %(address)s::text FROM email_jobs j
WHERE lower(j.recipient_email) = %(address)s::text OR j.id = ANY(%(mentioning)s::uuid[])
ORDER BY j.id FOR UPDATE

-- name: blank_jobs
-- The rows stay, so that sums stay true; nothing in them tells who it was. What still waited is cancelled.
UPDATE email_jobs j
SET recipient_email = '', recipient_name = '', subject = '', content = NULL, data = NULL, message_id = NULL, error_message = NULL,
    status = CASE WHEN j.status IN ('pending', 'scheduled', 'retrying') THEN 'cancelled' ELSE j.status END,
    next_attempt_at = NULL, leased_by = NULL, updated_at = now()
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid

-- name: blank_attempts
UPDATE email_attempts a SET message_id = NULL, error = NULL WHERE a.job_id = ANY(%(ids)s::uuid[]) AND a.id >= %(low)s::uuid

-- name: erase_tracking
DELETE FROM email_tracking t WHERE t.job_id = ANY(%(ids)s::uuid[])

-- name: erase_others_tracking
-- Events that belong to no job, or where the address was a Cc or Bcc: there is no index by address, every row is looked at.
DELETE FROM email_tracking t WHERE t.recipient = %(address)s::text

-- name: blank_mentions_in_tracking
-- Events of others' mail that name the person too: a Cc, an ESP's list of all recipients.
UPDATE email_tracking t SET event_data = '{}', message_id = NULL
WHERE position(%(address)s::text IN lower(t.event_data::text)) > 0 AND lower(t.event_data::text) ~ %(pattern)s::text

-- name: blank_mentions_in_jobs
-- What still waits is made from its stored original.
UPDATE email_jobs j SET content = NULL, data = NULL, error_message = NULL WHERE j.id = ANY(%(mentioning)s::uuid[])

-- name: blank_mentions_in_attempts
UPDATE email_attempts a SET error = NULL WHERE a.id = ANY(%(attempts)s::uuid[])

-- name: erase_unmatched
DELETE FROM unmatched_events u WHERE u.recipient = %(address)s::text OR lower(u.event) ~ %(pattern)s::text

-- name: erase_postponed
-- Callbacks that nobody could verify: they count as given up. escape spells bytes as text, ASCII as it is.
UPDATE postponed_callbacks p SET value = NULL WHERE lower(encode(p.value, 'escape')) ~ %(pattern)s::text

-- name: erase_rejections
DELETE FROM rejections r WHERE r.address = %(address)s::text

-- name: erase_dead_letters
-- Every one whose bytes or error name the person. escape spells bytes as text, ASCII as it is.
DELETE FROM dead_letters d
WHERE (position(%(address)s::text IN lower(encode(d.value, 'escape'))) > 0 AND lower(encode(d.value, 'escape')) ~ %(pattern)s::text)
   OR lower(d.error) ~ %(pattern)s::text
RETURNING d.id

-- name: erase_dead_letters_of_jobs
DELETE FROM dead_letters d WHERE d.row_id = ANY(%(ids)s::uuid[])
RETURNING d.id

-- name: lock_outbox
-- A page of what is not published yet.
SELECT o.id, o.topic, o.keys, o.values FROM outbox o
WHERE %(after)s::uuid IS NULL OR o.id > %(after)s::uuid
ORDER BY o.id LIMIT %(limit)s::int FOR UPDATE

-- name: replace_outbox
UPDATE outbox o SET keys = %(keys)s::text[], values = %(values)s::text[] WHERE o.id = %(id)s::uuid

-- name: blank_tracking
-- What was reported of a forgotten person's mail: that it was, and when.
UPDATE email_tracking t SET recipient = NULL, message_id = NULL, event_data = '{}', ip_address = NULL, user_agent = NULL
FROM unnest(%(ids)s::uuid[], %(moments)s::timestamptz[]) AS i(id, occurred_at)
WHERE t.id = i.id AND t.occurred_at = i.occurred_at
  AND t.occurred_at BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz

-- name: erase_payloads
-- The stored bytes of the jobs.
DELETE FROM email_payloads p WHERE p.id = ANY(%(ids)s::uuid[])
RETURNING p.body_hash

-- name: erase_bodies
-- Bodies that no other job needs.
DELETE FROM email_payload_bodies b
WHERE b.hash = ANY(%(hashes)s::bytea[]) AND NOT EXISTS (SELECT FROM email_payloads p WHERE p.body_hash = b.hash)

-- name: count_shared_bodies
SELECT count(*) FROM email_payload_bodies b WHERE b.hash = ANY(%(hashes)s::bytea[])

-- name: hash_suppressions
-- Suppressions outlive the person's data as a hash, or the next import would write to somebody who asked for silence.
WITH gone AS (
    DELETE FROM suppressions s WHERE s.address = ANY(%(addresses)s::text[])
    RETURNING s.address, s.tenant, s.reason, s.source, s.at, s.until, s.stream, s.is_global
)
INSERT INTO forgotten_suppressions AS f (hash, tenant, reason, source, at, stream, is_global)
SELECT sha256(convert_to(g.address, 'UTF8')), g.tenant, g.reason, g.source, g.at, g.stream, g.is_global
FROM gone g WHERE g.until IS NULL OR g.until > now()
ON CONFLICT (hash, tenant, reason) DO UPDATE
SET at = least(f.at, excluded.at), stream = least(f.stream, excluded.stream), is_global = f.is_global OR excluded.is_global
