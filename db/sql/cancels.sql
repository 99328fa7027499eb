-- Cancels: what waits ends, what is under way gets no further attempt. Lock the rows first (lock_jobs).

-- name: cancel_jobs
UPDATE email_jobs j
SET status = 'cancelled', error_message = %(why)s::text, next_attempt_at = NULL, leased_by = NULL, updated_at = now()
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid AND j.status IN ('pending', 'scheduled', 'retrying')
RETURNING j.id

-- name: ask_to_cancel
UPDATE email_jobs j SET cancel_asked_at = now(), updated_at = now()
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
  AND j.status IN ('sending', 'uncertain', 'dead') AND j.cancel_asked_at IS NULL

-- name: find_identities
-- What the world calls these rows, and where they stand.
SELECT j.id, j.job_id, j.tenant_id, j.recipient_email, coalesce(j.campaign_id, ''), j.status, j.generation, j.cancel_asked_at IS NOT NULL
FROM email_jobs j
WHERE j.id = ANY(%(ids)s::uuid[]) AND j.id BETWEEN %(low)s::uuid AND %(high)s::uuid
