-- What others ask: templates, weights, tenants, and the figures for the metrics page.

-- name: find_templates
-- The version is of the content, since other programs may edit a row and leave updated_at as it was.
SELECT t.name, md5(ROW(t.subject, t.html_content, t.text_content, t.variables)::text), t.type, t.subject, t.html_content, t.text_content,
       t.variables, t.is_active, coalesce(r.version, '')
FROM email_templates t LEFT JOIN rendered_templates r ON r.name = t.name
WHERE t.name = ANY(%(names)s::text[])

-- name: find_vanished_templates
-- Names that do not exist any more, but have rendered once.
SELECT r.name FROM rendered_templates r WHERE r.name = ANY(%(names)s::text[])

-- name: note_rendered
INSERT INTO rendered_templates AS r (name, version)
SELECT i.name, i.version FROM unnest(%(names)s::text[], %(versions)s::text[]) AS i(name, version) ORDER BY i.name
ON CONFLICT (name) DO UPDATE SET version = excluded.version, rendered_at = now() WHERE r.version <> excluded.version

-- name: list_templates
SELECT t.name, md5(ROW(t.subject, t.html_content, t.text_content, t.variables)::text), t.type, t.subject, t.html_content, t.text_content,
       t.variables, t.is_active, coalesce(r.version, '')
FROM email_templates t LEFT JOIN rendered_templates r ON r.name = t.name
ORDER BY t.name

-- name: upsert_template
INSERT INTO email_templates (name, type, subject, html_content, text_content, variables, created_by)
VALUES (%(name)s::text, %(type)s::text, %(subject)s::text, %(html)s::text, %(text)s::text, %(variables)s::jsonb, 'seed')
ON CONFLICT (name) DO NOTHING

-- name: newest_weights
SELECT w.id, w.weights, EXTRACT(EPOCH FROM w.computed_at)::float8 FROM esp_weights w ORDER BY w.id DESC LIMIT 1

-- name: find_tenants
SELECT u.id, u.from_email, u.from_name, u.reply_to FROM users u WHERE u.id = ANY(%(ids)s::bigint[])

-- name: count_waiting
-- Due rows by lane, and how long the oldest has been due.
SELECT j.lane, count(*), greatest(0, EXTRACT(EPOCH FROM now() - min(j.next_attempt_at)))::float8
FROM email_jobs j WHERE j.next_attempt_at <= now() GROUP BY j.lane

-- name: count_uncertain
SELECT u.provider, count(*) FROM uncertain_attempts u GROUP BY u.provider

-- name: count_outbox
SELECT count(*) FROM outbox

-- name: read_delivery_rates
-- Of what each ESP took of the cohorts that began within a day: the share that was delivered.
SELECT s.provider, least(1, sum(s.delivered) / sum(s.sent))::float8
FROM send_cohorts c JOIN esp_cohort_stats s ON s.cohort_id = c.id
WHERE c.started_at > now() - interval '1 day'
GROUP BY s.provider HAVING sum(s.sent) > 0

-- name: show_dead_letter
SELECT d.id, d.reason, d.error, d.job_id, d.tenant_id, d.row_id, d.record_index, d.source, d.value, d.attempts, d.created_at, d.replayed_at
FROM dead_letters d WHERE d.id::text LIKE %(prefix)s::text LIMIT 2

-- name: count_dead_letters
SELECT d.reason, count(*) FILTER (WHERE d.replayed_at IS NULL), count(d.replayed_at) FROM dead_letters d GROUP BY d.reason ORDER BY d.reason
