-- Dead letters brought back: each once, with its history kept.

-- name: choose_dead_letters
-- The oldest dead letters that fit and were not replayed or dropped yet; NULL = any. Locked, so that two replays share nothing.
SELECT d.id, j.id, d.record_index, d.source, d.value, d.job_id, d.created_at
FROM dead_letters d
LEFT JOIN email_jobs j ON j.id = d.row_id
WHERE d.replayed_at IS NULL
  AND (%(ids)s::uuid[] IS NULL OR d.id = ANY(%(ids)s::uuid[]))
  AND (%(reason)s::text IS NULL OR d.reason = %(reason)s::text)
  AND (%(since)s::timestamptz IS NULL OR d.created_at >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR d.created_at < %(until)s::timestamptz)
  AND (%(template)s::text IS NULL OR j.template = %(template)s::text)
  AND d.id <> ALL(%(skipped)s::uuid[])
ORDER BY d.created_at LIMIT %(limit)s::int
FOR UPDATE OF d SKIP LOCKED

-- name: list_dead_letters
-- The newest dead letters that fit, settled ones too; NULL = any.
SELECT d.id, d.reason, d.error, d.job_id, d.attempts, d.created_at, d.replayed_at IS NOT NULL
FROM dead_letters d
LEFT JOIN email_jobs j ON j.id = d.row_id
WHERE (%(reason)s::text IS NULL OR d.reason = %(reason)s::text)
  AND (%(since)s::timestamptz IS NULL OR d.created_at >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR d.created_at < %(until)s::timestamptz)
  AND (%(template)s::text IS NULL OR j.template = %(template)s::text)
ORDER BY d.created_at DESC LIMIT %(limit)s::int

-- name: revive_jobs
-- A new generation of dead jobs, due at once or at their time; one that evidence has moved on meanwhile is left alone.
UPDATE email_jobs j
SET status = CASE WHEN j.scheduled_at > now() THEN 'scheduled' ELSE 'pending' END, generation = j.generation + 1, retry_count = 0,
    waits = 0, error_message = NULL, next_attempt_at = greatest(now(), j.scheduled_at), leased_by = NULL, revived_at = now(),
    resent_at = NULL, only_provider = NULL, updated_at = now()
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND j.status = 'dead'
RETURNING j.id

-- name: mark_replayed
UPDATE dead_letters d SET replayed_at = now() WHERE d.id = ANY(%(ids)s::uuid[])

-- name: insert_audit
INSERT INTO audit_log (actor, action, subject, details) VALUES (%(actor)s::text, %(action)s::text, %(subject)s::text, %(details)s::jsonb)

-- name: retire_dead_letters
-- The oldest of those that are too old; one that somebody replays at this moment is left for the next time.
WITH old AS (
    SELECT d.id FROM dead_letters d WHERE d.created_at < now() - %(days)s::int * interval '1 day'
    ORDER BY d.created_at LIMIT %(limit)s::int
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM dead_letters d USING old WHERE d.id = old.id
    RETURNING d.reason, d.replayed_at IS NOT NULL AS is_settled
)
SELECT g.reason, g.is_settled, count(*) FROM gone g GROUP BY 1, 2 ORDER BY 1, 2
