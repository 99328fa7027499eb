-- May this database be filled with made-up history?

-- name: find_seeding
SELECT a.at FROM audit_log a WHERE a.action = %(action)s::text ORDER BY a.id LIMIT 1

-- name: find_filled_tables
-- Tables that hold rows of somebody's.
SELECT name FROM (VALUES
    ('email_jobs', EXISTS (SELECT FROM email_jobs)),
    ('email_job_keys', EXISTS (SELECT FROM email_job_keys)),
    ('email_attempts', EXISTS (SELECT FROM email_attempts)),
    ('email_tracking', EXISTS (SELECT FROM email_tracking)),
    ('dead_letters', EXISTS (SELECT FROM dead_letters)),
    ('suppressions', EXISTS (SELECT FROM suppressions)),
    ('send_cohorts', EXISTS (SELECT FROM send_cohorts)),
    ('users', EXISTS (SELECT FROM users)),
    ('email_service_providers', EXISTS (SELECT FROM email_service_providers)),
    ('campaigns', EXISTS (SELECT FROM campaigns)),
    ('email_batches', EXISTS (SELECT FROM email_batches))
) AS t(name, is_filled) WHERE is_filled
