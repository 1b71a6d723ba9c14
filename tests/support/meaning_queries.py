"""Queries over the tables t and u of test_meaning.py: DuckDB reads them as they stand, or as what follows =>."""

SAME = """
SELECT * FROM t

SELECT a, b AS bee, a + b AS total FROM t WHERE a > 3

SELECT t.*, t.a AS again FROM t WHERE NOT flag

SELECT x.a, x.b FROM t AS x WHERE x.s IN ('k1', 'k2') OR x.s IS NULL

SELECT a / 3 AS i, b / 7 AS l, d / 2 AS f, n / 2 AS m, a % 3 AS r FROM t

SELECT CASE WHEN a > 5 THEN 'big' WHEN a > 2 THEN s ELSE NULL END AS c, CASE a WHEN 1 THEN 10 ELSE 0 END AS e
FROM t

SELECT (st).x, st.y, (st).deep.z AS z, t.st.deep.z + 1 AS z1 FROM t

SELECT s || '-' || a AS c, upper(s) AS up, length(s) AS len, coalesce(s, 'none') AS co, nullif(a, 3) AS nu FROM
t

SELECT a::BIGINT AS b1, CAST(b AS VARCHAR) AS v, n::DOUBLE PRECISION AS f, a::text AS x, day::timestamp AS dt
FROM t

SELECT j->>'name' AS name, (j->'in'->>'n')::INT AS n, j->'list'->0 AS first FROM t

SELECT arr[1] AS one, arr[2] AS two FROM t

SELECT a BETWEEN 2 AND 5 AS be, s LIKE 'k%' AS li, a IS DISTINCT FROM 3 AS di, NOT (a = 1 OR b = 2) AS no FROM t

SELECT date_trunc('minute', ts) AS m, extract(hour FROM ts) AS h, ts + INTERVAL '90 seconds' AS later FROM t

SELECT greatest(a, 3) AS g, least(b, a) AS l, abs(a - 5) AS ab, round(n, 1) AS r, floor(d) AS f FROM t

SELECT count(*) AS c, sum(a) AS sa, sum(b) AS sb, min(d) AS mi, max(s) AS ma, avg(n) AS av, sum(n) AS sn FROM t

SELECT a, count(*) AS c, count(s) AS cs, count(DISTINCT s) AS cd, avg(b) AS av FROM t GROUP BY a

SELECT s, a % 3 AS m, sum(b) + count(*) AS x, max(b) - min(b) AS spread FROM t GROUP BY s, a % 3

SELECT a % 3 AS m, count(*) AS c FROM t GROUP BY m

SELECT a % 3 AS m, s AS z, count(*) AS c FROM t GROUP BY 1, 2

SELECT a, sum(b) AS x FROM t GROUP BY ALL

SELECT a + 1 AS a1 FROM t GROUP BY a

SELECT (a % 3) * 10 + sum(b) AS x FROM t GROUP BY a % 3

SELECT s FROM t GROUP BY s HAVING count(*) > 3 AND max(a) > 2

SELECT sum(b) AS x FROM t HAVING count(*) > 1000000

SELECT a, count(*) FILTER (WHERE b > 50) AS big, sum(b) FILTER (WHERE s IS NOT NULL AND b < 50) AS sm FROM t
GROUP BY a

SELECT count(*) AS c, count(*) FILTER (WHERE flag) AS cf, count(a + b) AS cab FROM t

SELECT DISTINCT a, s FROM t

SELECT DISTINCT a % 2 AS x, count(*) AS c FROM t GROUP BY a

SELECT t.a, u.id, u.v FROM t JOIN u ON t.a = u.a

SELECT t.a, t.s, u.v FROM t, u WHERE t.a = u.a AND t.s = u.s AND t.b > u.v

SELECT x.a AS xa, y.b AS yb FROM t x JOIN t y ON x.a = y.a + 1 AND x.b < y.b WHERE x.flag

SELECT a, t.b, u.v FROM t JOIN u USING (a)

SELECT a, s, id FROM t JOIN u USING (a, s)

SELECT one.id AS i, two.id AS j, t.b FROM u one, u two, t WHERE one.a = two.v % 7 AND two.a = t.a AND one.id <
10

SELECT t.b, u.v FROM u CROSS JOIN t WHERE u.a = t.a

SELECT t.b, u.v FROM t JOIN u ON t.a < u.a

SELECT t.a, u.v FROM t, u WHERE t.a BETWEEN u.a AND u.a + 3 AND t.flag

SELECT t.s, g.total FROM t CROSS JOIN (SELECT sum(v) AS total FROM u) g

SELECT x.a, y.v, z.id FROM t x, u y, u z WHERE x.a = z.a AND y.id < z.id AND x.a <> y.a

SELECT t.b, u.v FROM t JOIN u ON (t.a = u.a AND t.flag) OR (t.a = u.a AND u.v > 50)

SELECT t.a, u.id FROM t JOIN u ON abs(t.a) = u.a + 0 AND length(t.s) = length(u.s)

SELECT g.a, g.total, u.id FROM (SELECT a, sum(b) AS total FROM t GROUP BY a) g JOIN u ON g.a = u.a AND g.total >
u.v

SELECT k, val FROM odd

SELECT o.k, n.more FROM odd o JOIN nested n ON o.k = n.k

SELECT a FROM t UNION ALL SELECT id FROM u

SELECT a, s FROM t UNION ALL SELECT v, s FROM u UNION ALL SELECT NULL, 'x' FROM u

SELECT a FROM t UNION SELECT a FROM u

SELECT n AS x FROM t UNION ALL SELECT d FROM t UNION ALL SELECT a FROM u

WITH q AS (SELECT a, count(*) AS c FROM t GROUP BY a), r (p) AS (SELECT max(c) FROM q) SELECT q.a, r.p FROM q
JOIN r ON q.c = r.p

SELECT * FROM (SELECT a, b FROM t WHERE b > 10) AS z (p, q) WHERE q < 60

SELECT z.p + 1 AS w FROM (SELECT a FROM t) AS z (p)

(SELECT a FROM t WHERE a = 1) UNION ALL (SELECT a FROM t WHERE a = 2)

SELECT max(c) AS m FROM (SELECT a, count(*) AS c FROM t GROUP BY a)

SELECT tz, tz - INTERVAL '1 day' AS before, date_trunc('day', tz) AS d FROM t

SELECT count(*) AS c, a IS NULL AS missing FROM t GROUP BY a IS NULL

FROM t SELECT a WHERE a = 4

SELECT * EXCLUDE (j, st, arr) FROM t

SELECT min(day) AS a, max(ts) AS b, min(flag) AS c FROM t

SELECT 1 AS one, 'x' AS x, 1.5 AS dec, TRUE AS yes, DATE '2020-01-01' AS d FROM u

SELECT A AS "Mixed", "b" FROM T

WITH q AS MATERIALIZED (SELECT a FROM t) SELECT a FROM q

SELECT t.a FROM t WHERE (a, s) = (1, 'k1') OR a IN (1, 2, NULL)

SELECT - a AS neg, + a AS pos, a * -1 AS m, 2 ^ 3 AS p, (a + 1) * (a - 1) AS q, a - (b - 1) AS z FROM t

SELECT left(s, 1) AS l, right(s, 1) AS r, replace(s, 'k', 'x') AS e, trim(both 'k' from s) AS t,
split_part(s, 'k', 2) AS p FROM t

SELECT sum(DISTINCT a) AS sd, avg(DISTINCT b) AS ad, min(DISTINCT a) AS md FROM t
"""

TRANSLATED = """
SELECT a, window_start, window_end, count(*) AS c FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY 1, 2, 3
=>
SELECT a, time_bucket(INTERVAL 10 SECOND, ts, TIMESTAMP '1970-01-01') AS ws, ws + INTERVAL 10 SECOND, count(*) FROM t
WHERE ts IS NOT NULL GROUP BY ALL

SELECT window_start, sum(b) AS x FROM HOP(t, ts, INTERVAL '5 seconds', INTERVAL '15 seconds') GROUP BY
window_start
=>
SELECT time_bucket(INTERVAL 5 SECOND, ts, TIMESTAMP '1970-01-01') - to_seconds(5 * k) AS ws, sum(b) FROM t, range(3)
r(k) WHERE ts IS NOT NULL GROUP BY ws

SELECT `s`, window_end, count(*) AS c FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) AS w
WHERE w.v > 20 GROUP BY `s`, window_end
=>
SELECT s, time_bucket(INTERVAL 1 minute, ts, TIMESTAMP '1970-01-01') + INTERVAL 1 minute AS we, count(*) FROM u
WHERE v > 20 AND ts IS NOT NULL GROUP BY s, we

SELECT w.window_start, t2.id FROM TUMBLE((SELECT id, ts + INTERVAL '1 hour' AS at FROM u), at, INTERVAL '1' DAY,
INTERVAL '-8' HOUR) w JOIN u AS t2 ON w.id = t2.id
=>
SELECT time_bucket(INTERVAL 1 day, u.ts + INTERVAL 1 hour, TIMESTAMP '1969-12-31 16:00:00'), id FROM u JOIN u t2
USING (id) WHERE u.ts IS NOT NULL

SELECT count(*) AS c FROM TABLE(TUMBLE(DATA => TABLE u, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))
=>
SELECT count(*) FROM u WHERE ts IS NOT NULL

WITH w AS (SELECT * FROM u) SELECT window_start, window_time FROM TUMBLE(w, ts, INTERVAL '1:30' MINUTE TO
SECOND)
=>
SELECT time_bucket(INTERVAL 90 SECOND, ts, TIMESTAMP '1970-01-01') AS ws, ws + INTERVAL '89.999' SECOND FROM u WHERE
ts IS NOT NULL

SELECT to_char(ts, 'YYYY-MM-DD HH24:MI:SS') AS x FROM t
=>
SELECT strftime(ts, '%Y-%m-%d %H:%M:%S') FROM t

SELECT mod(b, 7) AS x, position('1' in s) AS y FROM t
=>
SELECT b % 7, strpos(s, '1') FROM t

SELECT x.st.x AS v, count(*) AS c FROM t x GROUP BY x.st.x
=>
SELECT st.x, count(*) FROM t GROUP BY st.x

SELECT (st).* FROM t
=>
SELECT st.x, st.y, st.deep FROM t

SELECT count(*), count(*), a + 1, a + 2 FROM t GROUP BY a
=>
SELECT count(*), count(*), a + 1, a + 2 FROM t GROUP BY a
"""
