-- Lanes that are stopped, by an operator or by the program itself, and the rows that are tried to see whether it may go on.

-- name: find_pauses
SELECT p.lane, p.paused_at, p.paused_by, p.reason FROM lane_pauses p ORDER BY p.lane

-- name: pause_lane
-- The first to stop a lane has stopped it; only an operator's word stands above the program's own.
INSERT INTO lane_pauses AS p (lane, paused_by, reason, probes, probe_at)
VALUES (%(lane)s::text, %(by)s::text, %(reason)s::text, %(probes)s::uuid[], now() + %(probe_s)s::float8 * interval '1 second')
ON CONFLICT (lane) DO UPDATE SET paused_by = excluded.paused_by, reason = excluded.reason, probe_at = excluded.probe_at
WHERE excluded.probe_at IS NULL
RETURNING p.lane

-- name: resume_lane
-- `by`: only where this is who stopped it (NULL = whoever did).
DELETE FROM lane_pauses p
WHERE p.lane = %(lane)s::text AND (%(by)s::text IS NULL OR p.paused_by = %(by)s::text)
RETURNING p.lane

-- name: take_probe
-- One worker of all hosts tries one email.
UPDATE lane_pauses p SET probe_at = now() + %(probe_s)s::float8 * interval '1 second'
WHERE p.lane = (SELECT d.lane FROM lane_pauses d WHERE d.lane = ANY(%(lanes)s::text[]) AND d.probe_at <= now()
                ORDER BY d.probe_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING p.lane, p.probes::text[]

-- name: lease_probe
-- Like lease_due, for one of these rows that still waits and is in nobody's hand.
WITH chosen AS (
    SELECT j.id FROM email_jobs j
    WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
      AND j.next_attempt_at IS NOT NULL AND (j.leased_by IS NULL OR j.next_attempt_at <= now())
    ORDER BY j.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE email_jobs j SET next_attempt_at = now() + %(lease_s)s::float8 * interval '1 second', leased_by = %(owner)s::text
FROM chosen WHERE j.id = chosen.id
RETURNING j.id

-- name: find_lane
SELECT j.lane FROM email_jobs j WHERE j.id = %(id)s::uuid
