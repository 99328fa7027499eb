-- Who must not get mail, and by what event.

-- name: find_suppressions
-- Who must not get mail: addresses in lower case. Somebody who asked to be forgotten is known by a hash, which is only looked for
-- where there is one at all.
SELECT s.address, s.tenant, s.reason, s.stream, s.is_global FROM suppressions s
WHERE s.address = ANY(%(addresses)s::text[]) AND (s.until IS NULL OR s.until > now())
UNION ALL
SELECT i.address, f.tenant, f.reason, f.stream, f.is_global
FROM unnest(%(addresses)s::text[]) AS i(address) JOIN forgotten_suppressions f ON f.hash = sha256(convert_to(i.address, 'UTF8'))
WHERE EXISTS (SELECT FROM forgotten_suppressions)

-- name: insert_suppressions
-- The earliest event counts, whatever the order in which they come; of unsubscribes one from marketing mail before all others.
-- What an operator put there for everybody is not an event's to change.
INSERT INTO suppressions AS s (address, tenant, reason, stream, at, source)
SELECT DISTINCT ON (i.address, i.tenant, i.reason) i.address, i.tenant, i.reason, coalesce(c.stream, ''), i.at, i.source
FROM unnest(%(addresses)s::text[], %(tenants)s::bigint[], %(reasons)s::text[], %(sources)s::text[], %(moments)s::timestamptz[],
            %(cohorts)s::uuid[])
    AS i(address, tenant, reason, source, at, cohort)
LEFT JOIN send_cohorts c ON c.id = i.cohort
ORDER BY i.address, i.tenant, i.reason, coalesce(c.stream, ''), i.at, i.source
ON CONFLICT (address, tenant, reason) DO UPDATE SET stream = excluded.stream, source = excluded.source, at = excluded.at
WHERE NOT s.is_global AND (excluded.stream, excluded.at, excluded.source) < (s.stream, s.at, s.source)

-- name: find_delivering_windows
-- Windows of which it is known already that the account delivered: nothing to lock.
SELECT w.provider, w.account_tenant, w.window_start
FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(starts)s::timestamptz[]) AS i(provider, account_tenant, window_start)
JOIN account_windows w USING (provider, account_tenant, window_start)
WHERE w.has_delivery AND NOT w.is_held

-- name: lock_windows
INSERT INTO account_windows AS w (provider, account_tenant, window_start, has_delivery)
SELECT i.provider, i.account_tenant, i.window_start, i.has_delivery
FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(starts)s::timestamptz[], %(deliveries)s::boolean[])
    AS i(provider, account_tenant, window_start, has_delivery)
ORDER BY i.provider, i.account_tenant, i.window_start
ON CONFLICT (provider, account_tenant, window_start) DO UPDATE SET has_delivery = w.has_delivery OR excluded.has_delivery
RETURNING w.provider, w.account_tenant, w.window_start, w.has_delivery, w.is_held

-- name: insert_rejections
INSERT INTO rejections AS r (provider, account_tenant, window_start, tenant, address, at)
SELECT i.provider, i.account_tenant, i.window_start, i.tenant, i.address, min(i.at)
FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(starts)s::timestamptz[], %(tenants)s::bigint[],
            %(addresses)s::text[], %(moments)s::timestamptz[])
    AS i(provider, account_tenant, window_start, tenant, address, at)
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (provider, account_tenant, window_start, tenant, address) DO UPDATE SET at = least(r.at, excluded.at)

-- name: count_rejections
-- How many addresses were refused in each window, counted no further than what decides.
SELECT i.provider, i.account_tenant, i.window_start, (
    SELECT count(*) FROM (
        SELECT FROM rejections r
        WHERE r.provider = i.provider AND r.account_tenant = i.account_tenant AND r.window_start = i.window_start
        LIMIT %(limit)s::int) counted)
FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(starts)s::timestamptz[]) AS i(provider, account_tenant, window_start)

-- name: hold_windows
UPDATE account_windows w SET is_held = i.is_held
FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(starts)s::timestamptz[], %(held)s::boolean[])
    AS i(provider, account_tenant, window_start, is_held)
WHERE w.provider = i.provider AND w.account_tenant = i.account_tenant AND w.window_start = i.window_start

-- name: withdraw_suppressions
-- What the rejections of these windows brought, and nothing else.
DELETE FROM suppressions s
USING unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(starts)s::timestamptz[], %(sources)s::text[])
          AS i(provider, account_tenant, window_start, source)
     JOIN rejections r USING (provider, account_tenant, window_start)
WHERE s.address = r.address AND s.tenant = r.tenant AND s.reason = 'hard-bounce' AND s.source = i.source AND s.at = r.at

-- name: find_rejected
-- The addresses refused in these windows.
SELECT DISTINCT r.address
FROM unnest(%(providers)s::text[], %(account_tenants)s::bigint[], %(starts)s::timestamptz[]) AS i(provider, account_tenant, window_start)
JOIN rejections r USING (provider, account_tenant, window_start)

-- name: apply_rejections
-- Suppress those of these addresses that were refused in a window that counts.
INSERT INTO suppressions AS s (address, tenant, reason, source, at)
SELECT DISTINCT ON (r.address, r.tenant) r.address, r.tenant, 'hard-bounce', r.provider || '/' || r.account_tenant, r.at
FROM rejections r JOIN account_windows w USING (provider, account_tenant, window_start)
WHERE r.address = ANY(%(addresses)s::text[]) AND NOT w.is_held
ORDER BY r.address, r.tenant, r.at, r.provider || '/' || r.account_tenant
ON CONFLICT (address, tenant, reason) DO UPDATE SET source = excluded.source, at = excluded.at
WHERE NOT s.is_global AND (excluded.at, excluded.source) < (s.at, s.source)

-- name: sweep_rejections
DELETE FROM rejections r WHERE r.window_start < now() - %(days)s::int * interval '1 day'

-- name: sweep_windows
DELETE FROM account_windows w WHERE w.window_start < now() - %(days)s::int * interval '1 day'

-- name: list_suppressions
SELECT s.address, s.tenant, s.reason, s.source, s.at, s.until, s.stream, s.is_global
FROM suppressions s
WHERE (%(address)s::text IS NULL OR s.address = %(address)s::text) AND (%(source)s::text IS NULL OR s.source = %(source)s::text)
ORDER BY s.at DESC LIMIT %(limit)s::int

-- name: count_suppressions
SELECT s.reason, s.source, count(*) FROM suppressions s GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2

-- name: add_suppression
-- An entry for everybody is not narrowed to one tenant by the way.
INSERT INTO suppressions AS s (address, tenant, reason, source, until, is_global)
VALUES (%(address)s::text, %(tenant)s::bigint, %(reason)s::text, %(source)s::text, %(until)s::timestamptz, %(is_global)s::boolean)
ON CONFLICT (address, tenant, reason) DO UPDATE
SET source = excluded.source, until = excluded.until, at = now(), stream = '', is_global = excluded.is_global
WHERE excluded.is_global OR NOT s.is_global
RETURNING s.address

-- name: remove_suppression
-- The address as it is, and as the hash that is left of somebody who was forgotten. A tenant's name takes off its own entries only.
WITH plain AS (
    DELETE FROM suppressions s
    WHERE s.address = %(address)s::text AND (%(tenant)s::bigint IS NULL OR s.tenant = %(tenant)s::bigint AND NOT s.is_global)
      AND (%(reason)s::text IS NULL OR s.reason = %(reason)s::text)
    RETURNING s.reason
), hashed AS (
    DELETE FROM forgotten_suppressions f
    WHERE f.hash = sha256(convert_to(%(address)s::text, 'UTF8'))
      AND (%(tenant)s::bigint IS NULL OR f.tenant = %(tenant)s::bigint AND NOT f.is_global)
      AND (%(reason)s::text IS NULL OR f.reason = %(reason)s::text)
    RETURNING f.reason
), events AS (
    DELETE FROM rejections r
    WHERE r.address = %(address)s::text AND (%(tenant)s::bigint IS NULL OR r.tenant = %(tenant)s::bigint)
      AND coalesce(%(reason)s::text, 'hard-bounce') = 'hard-bounce'
)
SELECT reason FROM plain UNION ALL SELECT reason FROM hashed

-- name: undo_suppressions
-- Everything that one source brought within a time: an incident.
WITH gone AS (
    DELETE FROM suppressions s
    WHERE s.source = %(source)s::text AND s.at >= coalesce(%(since)s::timestamptz, '-infinity')
      AND s.at < coalesce(%(until)s::timestamptz, 'infinity') AND (%(reason)s::text IS NULL OR s.reason = %(reason)s::text)
    RETURNING s.address
), hashed AS (
    DELETE FROM forgotten_suppressions f
    WHERE f.source = %(source)s::text AND f.at >= coalesce(%(since)s::timestamptz, '-infinity')
      AND f.at < coalesce(%(until)s::timestamptz, 'infinity') AND (%(reason)s::text IS NULL OR f.reason = %(reason)s::text)
    RETURNING f.hash
), events AS (
    DELETE FROM rejections r
    WHERE r.provider || '/' || r.account_tenant = %(source)s::text AND r.at >= coalesce(%(since)s::timestamptz, '-infinity')
      AND r.at < coalesce(%(until)s::timestamptz, 'infinity') AND coalesce(%(reason)s::text, 'hard-bounce') = 'hard-bounce'
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM hashed)
