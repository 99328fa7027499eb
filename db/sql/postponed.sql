-- Callbacks that could not be verified when they came.

-- name: put_postponed
-- One that is there was tried again in vain: the longer it waits, the more seldom. What was given up may be brought back by somebody.
INSERT INTO postponed_callbacks AS p (topic, partition, record_offset, value, received_at, check_at)
SELECT i.topic, i.partition, i.record_offset, i.value, i.received_at, now() + %(soonest_s)s::float8 * interval '1 second'
FROM unnest(%(topics)s::text[], %(partitions)s::int[], %(offsets)s::bigint[], %(values)s::bytea[], %(received)s::timestamptz[])
    AS i(topic, partition, record_offset, value, received_at)
ORDER BY i.topic, i.partition, i.record_offset
ON CONFLICT (topic, partition, record_offset) DO UPDATE
SET value = excluded.value,
    check_at = now() + least(greatest((now() - p.stored_at) * 0.1, %(soonest_s)s::float8 * interval '1 second'),
                             %(latest_s)s::float8 * interval '1 second')

-- name: lease_postponed
-- Some whose time has come, for one worker, and not more bytes than it should hold; the others leave them alone meanwhile. The last
-- column: is it their last chance?
WITH due AS (
    SELECT p.number, p.check_at, octet_length(p.value) AS size FROM postponed_callbacks p
    WHERE p.value IS NOT NULL AND p.check_at <= now() AND p.topic = ANY(%(topics)s::text[])
    ORDER BY p.check_at LIMIT %(limit)s::int
    FOR UPDATE SKIP LOCKED
), measured AS (
    SELECT d.number, sum(d.size) OVER (ORDER BY d.check_at, d.number) - d.size AS before FROM due d
)
UPDATE postponed_callbacks p SET check_at = now() + %(lease_s)s::float8 * interval '1 second'
FROM measured m WHERE p.number = m.number AND m.before < %(bytes)s::bigint
RETURNING p.topic, p.partition, p.record_offset, p.value, EXTRACT(EPOCH FROM p.received_at)::float8, p.number,
          p.stored_at < now() - %(days)s::int * interval '1 day'

-- name: delete_postponed
DELETE FROM postponed_callbacks p WHERE p.number = ANY(%(numbers)s::bigint[])

-- name: empty_postponed
UPDATE postponed_callbacks p SET value = NULL WHERE p.number = ANY(%(numbers)s::bigint[])

-- name: find_crowded
-- Topics of which so much waits that no more may be taken.
SELECT p.topic FROM postponed_callbacks p WHERE p.value IS NOT NULL
GROUP BY p.topic HAVING count(*) >= %(rows)s::bigint OR sum(octet_length(p.value)) >= %(bytes)s::bigint

-- name: find_unread
-- Since when nothing of each topic is unread.
SELECT p.topic, max(p.stored_at) FROM postponed_callbacks p GROUP BY p.topic

-- name: count_postponed
SELECT p.topic, count(*) FROM postponed_callbacks p WHERE p.value IS NOT NULL GROUP BY p.topic

-- name: forget_postponed
-- Older than any doubt: those that were given up, and those of ESPs that are off, which nobody tries any more.
DELETE FROM postponed_callbacks p WHERE p.stored_at < now() - %(days)s::int * interval '1 day'
