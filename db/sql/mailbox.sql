-- Domains and who is behind them.

-- name: find_unknown_domains
-- To which domains that nobody knows mail went lately, the most frequent first. Of very much mail the newest is enough to tell.
SELECT lately.domain
FROM (
    SELECT split_part(lower(j.recipient_email), '@', -1) AS domain
    FROM email_attempts a JOIN email_jobs j ON j.id = a.job_id
    WHERE a.id >= %(low)s::uuid AND a.mailbox_provider = 'other'
    ORDER BY a.id DESC LIMIT %(sample)s::int
) lately
LEFT JOIN mailbox_domains d ON d.domain = lately.domain
WHERE lately.domain <> '' AND (d.domain IS NULL OR d.again_at < now())
GROUP BY lately.domain ORDER BY count(*) DESC, lately.domain LIMIT %(limit)s::int

-- name: upsert_domains
INSERT INTO mailbox_domains AS d (domain, mailbox_provider, exchanger, again_at)
SELECT i.domain, i.mailbox_provider, i.exchanger, now() + i.again_s * interval '1 second'
FROM unnest(%(domains)s::text[], %(mailbox_providers)s::text[], %(exchangers)s::text[], %(again)s::float8[])
    AS i(domain, mailbox_provider, exchanger, again_s)
ORDER BY i.domain
ON CONFLICT (domain) DO UPDATE
SET mailbox_provider = excluded.mailbox_provider, exchanger = excluded.exchanger, looked_up_at = now(), again_at = excluded.again_at

-- name: find_hosted_domains
SELECT d.domain, d.mailbox_provider FROM mailbox_domains d WHERE d.mailbox_provider <> 'other'
ORDER BY d.looked_up_at DESC LIMIT %(limit)s::int

-- name: forget_domains
-- Nobody writes there any more, or it would have been looked up again.
DELETE FROM mailbox_domains d WHERE d.again_at < now() - %(days)s::int * interval '1 day'
