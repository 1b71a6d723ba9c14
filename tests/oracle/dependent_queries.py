"""Subqueries that are not joined by equalities alone: DuckDB answers each as it stands."""

from __future__ import annotations

INEQUALITIES = """
SELECT label, (SELECT max(v) FROM events AS e WHERE e.v < i.rate) AS top FROM items AS i
--
SELECT label, (SELECT count(*) FROM events AS e WHERE e.k = i.k AND e.v < i.rate) AS n FROM items AS i
--
SELECT label, (SELECT sum(v) + count(*) FROM events AS e WHERE e.v <> i.rate OR i.rate IS NULL) AS s FROM items AS i
--
SELECT label, EXISTS (SELECT 1 FROM events AS e WHERE e.v > i.rate) AS there FROM items AS i
--
SELECT label, NOT EXISTS (SELECT 1 FROM events AS e WHERE e.k = i.k AND e.v > i.rate) OR k = 1 AS out FROM items AS i
--
SELECT label, rate NOT IN (SELECT v FROM events AS e WHERE e.k <= i.k) AS out FROM items AS i
--
SELECT label, rate FROM items AS i WHERE rate NOT IN (SELECT v FROM events AS e WHERE e.k < i.k AND e.v IS NOT NULL)
--
SELECT label, rate FROM items AS i WHERE rate NOT IN (SELECT v FROM events AS e WHERE e.k < i.k)
--
SELECT label FROM items AS i WHERE weight > (SELECT avg(v) FROM events AS e WHERE e.k <= i.k)
--
SELECT k, sum(rate) AS s, (SELECT count(*) FROM events AS e WHERE e.v < i.k) AS n FROM items AS i GROUP BY k
--
SELECT k, max(rate) AS m FROM items AS i GROUP BY k HAVING EXISTS (SELECT 1 FROM events AS e WHERE e.v > i.k)
--
SELECT sum((SELECT count(*) FROM events AS e WHERE e.v > i.rate)) AS s FROM items AS i
"""

SELECT_LISTS = """
SELECT label, (SELECT max(e.v + i.rate) FROM events AS e WHERE e.k = i.k) AS top FROM items AS i
--
SELECT label, (SELECT count(e.v + i.rate) FROM events AS e WHERE e.k = i.k) AS n FROM items AS i
--
SELECT label, (SELECT i.rate) AS same, (SELECT e.k FROM events AS e WHERE e.k = i.k AND e.id = 3) AS k FROM items AS i
--
SELECT label, (SELECT i.rate * 2) AS twice, (SELECT coalesce(i.rate, max(e.v)) FROM events AS e) AS m FROM items AS i
--
SELECT label, (SELECT max(e.v) + i.rate FROM events AS e WHERE e.k = i.k) AS m FROM items AS i
--
SELECT label, (SELECT i.rate + e.id FROM events AS e WHERE e.id = i.k) AS m FROM items AS i
--
SELECT label, i.rate IN (SELECT e.v + i.k FROM events AS e) AS there FROM items AS i
--
SELECT label, (SELECT sum(CASE WHEN e.v > i.rate THEN 1 ELSE 0 END) FROM events AS e) AS n FROM items AS i
--
SELECT label, (SELECT count(*) FILTER (WHERE e.v > i.rate) FROM events AS e WHERE e.k = i.k) AS n FROM items AS i
--
SELECT label, (SELECT string_agg(e.name, '' ORDER BY e.id) FROM events AS e WHERE e.v >= i.rate) AS s FROM items AS i
--
SELECT label, (SELECT max(n) FROM (SELECT e.v % (i.rate + 1) AS m, count(*) AS n FROM events AS e GROUP BY e.v %
(i.rate + 1)) AS t) AS n FROM items AS i
--
SELECT label, (SELECT max(r) FROM (SELECT e.v, rank() OVER (ORDER BY abs(e.v - i.rate)) AS r FROM events AS e) AS t)
AS m FROM items AS i
--
SELECT label, (SELECT max(v) - i.rate FROM events AS e WHERE e.k = i.k GROUP BY e.k) AS m FROM items AS i
"""

AGGREGATES = """
SELECT label, rate FROM items AS i WHERE rate IN (SELECT max(v) FROM events AS e WHERE e.k = i.k)
--
SELECT label, rate NOT IN (SELECT count(*) FROM events AS e WHERE e.k = i.k) AS out FROM items AS i
--
SELECT label FROM items AS i WHERE EXISTS (SELECT max(v) FROM events AS e WHERE e.k = i.k)
--
SELECT label FROM items AS i WHERE NOT EXISTS (SELECT max(v) FROM events AS e WHERE e.k = i.k HAVING count(*) > 2)
--
SELECT label, EXISTS (SELECT 1 FROM events AS e WHERE e.k = i.k HAVING count(*) = 0) AS none FROM items AS i
--
SELECT label, (SELECT max(v) FROM events AS e WHERE e.k = i.k HAVING count(*) > 2) AS top FROM items AS i
--
SELECT label, (SELECT count(*) FROM events AS e WHERE e.k = i.k HAVING count(*) < 3) AS n FROM items AS i
--
SELECT label, (SELECT count(*) FROM events AS e WHERE e.k = i.k OFFSET 1) AS n FROM items AS i
--
SELECT label, EXISTS (SELECT e.k, count(*) FROM events AS e WHERE e.v > i.rate GROUP BY e.k HAVING count(*) > 2) AS m
FROM items AS i
--
SELECT label, (SELECT sum(n) FROM (SELECT k, count(*) AS n FROM events AS e WHERE e.v < i.rate GROUP BY ROLLUP (k)) AS
t) AS s FROM items AS i
--
SELECT label, (SELECT approx_count_distinct(v) FROM events AS e WHERE e.k = i.k) AS n, (SELECT regr_count(v, id) FROM
events AS e WHERE e.v > i.rate) AS m FROM items AS i
--
SELECT label, (SELECT count(DISTINCT e.v) + i.rate FROM events AS e WHERE e.v < i.rate) AS n FROM items AS i
"""

LATERAL = """
SELECT i.label, t.v FROM items AS i, LATERAL (SELECT v FROM events AS e WHERE e.v < i.rate ORDER BY v DESC, id LIMIT
2) AS t
--
SELECT i.label, t.id FROM items AS i LEFT JOIN LATERAL (SELECT id, v FROM events AS e WHERE e.k = i.k AND e.v > i.rate
ORDER BY id LIMIT 1) AS t ON true
--
SELECT i.label, t.id FROM items AS i LEFT JOIN LATERAL (SELECT id, v FROM events AS e WHERE e.k = i.k) AS t ON t.v >
i.rate
--
SELECT i.label, t.n FROM items AS i LEFT JOIN LATERAL (SELECT count(*) AS n FROM events AS e WHERE e.k = i.k) AS t ON
t.n > i.rate
--
SELECT i.label, t.n FROM items AS i JOIN LATERAL (SELECT count(*) AS n FROM events AS e WHERE e.v > i.rate) AS t ON
t.n > 1
--
SELECT i.label, t.x, t.y FROM items AS i, LATERAL (SELECT i.rate + 1, i.k) AS t(x, y)
--
SELECT i.label, t.x, u.n FROM items AS i, LATERAL (SELECT i.rate * 2 AS x) AS t, LATERAL (SELECT count(*) AS n FROM
events AS e WHERE e.v < t.x) AS u
--
SELECT i.label, t.k, t.n FROM items AS i CROSS JOIN LATERAL (SELECT k, count(*) AS n FROM events AS e WHERE e.v >=
i.rate GROUP BY k) AS t
--
SELECT i.label, t.v FROM items AS i, LATERAL (SELECT DISTINCT v FROM events AS e WHERE e.v > i.rate) AS t
--
SELECT i.label, t.x FROM items AS i LEFT JOIN LATERAL (SELECT max(e.v) + i.rate FROM events AS e WHERE e.k = i.k) AS
t(x) ON t.x > 3
--
SELECT i.label, t.k, t.v FROM items AS i, LATERAL (SELECT DISTINCT ON (k) k, v FROM events AS e WHERE e.v < i.rate
ORDER BY k, v DESC, id) AS t
--
SELECT i.label, t.x FROM items AS i, LATERAL (SELECT x FROM unnest([i.rate, i.k, 3]) AS u(x) WHERE x > i.k) AS t
"""

SETS = """
SELECT label, rate IN (SELECT v FROM events AS e WHERE e.k = i.k UNION SELECT id FROM events AS e WHERE e.v > i.rate)
AS t FROM items AS i
--
SELECT label, (SELECT max(x) FROM (SELECT v AS x FROM events AS e WHERE e.k = i.k UNION ALL SELECT i.rate) AS t) AS m
FROM items AS i
--
SELECT label, EXISTS (SELECT v FROM events AS e WHERE e.k = i.k INTERSECT SELECT i.rate) AS t FROM items AS i
--
SELECT label, EXISTS (SELECT v FROM events AS e WHERE e.k = i.k EXCEPT SELECT v FROM events AS e WHERE e.v > i.rate)
AS t FROM items AS i
--
SELECT label, (SELECT count(*) FROM (SELECT v FROM events AS e WHERE e.k <= i.k EXCEPT ALL SELECT v FROM events) AS t)
AS n FROM items AS i
--
SELECT label, (WITH c AS (SELECT v FROM events AS e WHERE e.k = i.k) SELECT max(v) FROM c) AS m FROM items AS i
--
SELECT label, (WITH c AS (SELECT v, id FROM events AS e WHERE e.v < i.rate) SELECT count(*) FROM c AS a JOIN c AS b ON
a.v = b.v AND a.id < b.id) AS m FROM items AS i
--
SELECT label FROM items AS i WHERE i.rate NOT IN (WITH c AS (SELECT v FROM events AS e WHERE e.k = i.k) SELECT v FROM
c WHERE v IS NOT NULL)
--
SELECT i.label, t.x FROM items AS i, LATERAL ((SELECT v AS x FROM events AS e WHERE e.k = i.k) UNION (SELECT i.rate)
ORDER BY x DESC LIMIT 2) AS t
--
SELECT label, (SELECT sum(x) FROM (SELECT DISTINCT v AS x FROM events AS e WHERE e.k = i.k) AS t WHERE x > i.rate) AS
s FROM items AS i
"""

LEVELS = """
SELECT label, (SELECT max(v) FROM events AS e WHERE e.k = i.k AND EXISTS (SELECT 1 FROM items AS j WHERE j.k = e.k AND
j.rate > i.rate)) AS m FROM items AS i
--
SELECT label FROM items AS i WHERE EXISTS (SELECT 1 FROM events AS e WHERE e.v > (SELECT avg(j.rate) FROM items AS j
WHERE j.k = i.k))
--
SELECT label, (SELECT count(*) FROM events AS e WHERE e.v NOT IN (SELECT j.rate FROM items AS j WHERE j.k = i.k AND
j.rate <> e.id)) AS n FROM items AS i
--
SELECT label FROM items AS i WHERE NOT EXISTS (SELECT 1 FROM events AS e WHERE e.k = i.k AND NOT EXISTS (SELECT 1 FROM
items AS j WHERE j.rate = e.v AND j.k = i.k))
--
SELECT label, (SELECT sum((SELECT max(j.weight) FROM items AS j WHERE j.k = e.k AND j.rate >= i.rate)) FROM events AS
e) AS s FROM items AS i
--
SELECT label, (SELECT (SELECT (SELECT i.rate + 1))) AS n FROM items AS i
--
SELECT i.label, t.n FROM items AS i, LATERAL (SELECT count(*) AS n FROM events AS e, LATERAL (SELECT j.rate FROM items
AS j WHERE j.k = e.k AND j.rate > i.rate) AS u) AS t
"""

JOINS = """
SELECT label, (SELECT count(*) FROM events AS e JOIN items AS j ON e.k = j.k AND e.v > i.rate) AS n FROM items AS i
--
SELECT label, (SELECT count(j.label) FROM events AS e LEFT JOIN items AS j ON e.k = j.k AND j.rate > i.rate) AS n FROM
items AS i
--
SELECT label, (SELECT count(e.id) FROM events AS e RIGHT JOIN items AS j ON e.k = j.k AND e.v > i.rate WHERE j.rate <>
1) AS n FROM items AS i
--
SELECT label, (SELECT count(*) FROM events AS e FULL JOIN items AS j ON e.k = j.k AND e.v > i.rate) AS n FROM items AS
i
--
SELECT label, (SELECT count(*) FROM (SELECT v FROM events AS e WHERE e.k = i.k) AS a, (SELECT j.rate FROM items AS j
WHERE j.rate < i.rate) AS b WHERE a.v >= b.rate) AS n FROM items AS i
--
SELECT label, (SELECT count(b.rate) FROM events AS a LEFT JOIN (SELECT j.rate FROM items AS j WHERE j.rate < i.rate)
AS b ON a.v = b.rate) AS n FROM items AS i
--
SELECT label, (SELECT count(*) FROM (SELECT v FROM events AS e WHERE e.k = i.k) AS a FULL JOIN (SELECT j.rate FROM
items AS j WHERE j.rate < i.rate) AS b ON a.v = b.rate) AS n FROM items AS i
--
SELECT label, (SELECT count(*) FROM (SELECT v FROM events AS e WHERE e.k = i.k) AS a RIGHT JOIN (SELECT j.rate FROM
items AS j WHERE j.rate < i.rate) AS b ON a.v = b.rate AND b.rate < i.k) AS n FROM items AS i
--
SELECT label, (SELECT sum(x) FROM generate_series(1, i.rate) AS t(x)) AS s, (SELECT count(*) FROM unnest([i.rate,
i.k]) AS u(x) WHERE x > 1) AS n FROM items AS i
--
SELECT label, (SELECT count(*) FROM events AS e SEMI JOIN items AS j ON e.k = j.k AND j.rate > i.rate) AS n FROM items
AS i
--
SELECT label, (SELECT count(*) FROM events AS e, unnest([e.v, i.rate]) AS u(x) WHERE x = 2) AS n FROM items AS i
--
SELECT label, (SELECT count(*) FROM (SELECT v FROM events AS e WHERE e.v > i.rate) AS a FULL JOIN (SELECT rate FROM
items AS j WHERE j.rate < i.rate) AS b ON a.v = b.rate FULL JOIN (SELECT k FROM items AS l WHERE l.k <> i.rate) AS c
ON c.k = b.rate) AS n FROM items AS i
--
SELECT a.id, b.label FROM events AS a JOIN items AS b ON a.v IS NOT DISTINCT FROM b.rate
--
SELECT a.id, b.label FROM events AS a FULL JOIN items AS b ON a.k IS NOT DISTINCT FROM b.k AND a.v = b.rate
--
SELECT a.id, b.label FROM events AS a JOIN items AS b ON a.k = b.k AND a.v >= (SELECT max(c.rate) FROM items AS c WHERE
c.k = b.k) LEFT JOIN items AS d ON d.rate = a.id
--
SELECT a.id, b.label FROM events AS a JOIN items AS b ON a.k = b.k AND EXISTS (SELECT 1 FROM items AS c WHERE c.rate <
a.v AND c.k > b.k) WHERE b.rate NOT IN (SELECT c.k FROM items AS c WHERE c.k IS NOT NULL)
--
SELECT label, (SELECT max(x) FROM (VALUES (i.rate), (i.k), (2)) AS t(x)) AS m, (VALUES (i.k + 1)) AS n FROM items AS i
--
SELECT i.label, t.x, t.y FROM items AS i, LATERAL (VALUES (i.rate, 'a'), (i.k, i.label)) AS t(x, y)
--
SELECT DISTINCT unnest([rate, k]) AS x FROM items
--
SELECT DISTINCT label, unnest([rate, k]) AS x FROM items ORDER BY x, label LIMIT 5
"""

QUANTIFIED = """
SELECT label, rate FROM items WHERE rate > ALL (SELECT v FROM events WHERE k = 1)
--
SELECT label, rate >= ANY (SELECT v FROM events WHERE k = 1) AS a, rate < ALL (SELECT v FROM events WHERE id > 9) AS b,
rate <= SOME (SELECT v FROM events) AS c FROM items
--
SELECT label, rate = ALL (SELECT v FROM events AS e WHERE e.k = i.k) AS a, rate <> ANY (SELECT v FROM events AS e
WHERE e.k = i.k) AS b FROM items AS i
--
SELECT label, rate >= ALL (SELECT v FROM events AS e WHERE e.id < i.k * 5) AS a, rate < ANY (SELECT v + i.k FROM events
AS e WHERE e.k <> i.k) AS b FROM items AS i
--
SELECT label, NOT rate <= ALL (SELECT v FROM events AS e WHERE e.v IS NOT NULL AND e.k = i.k) AS a FROM items AS i
--
SELECT label, rate > (SELECT max(v) FROM events) OR rate < ALL (SELECT v FROM events WHERE v > 99) AS a FROM items
--
SELECT k, sum(rate) AS s FROM items GROUP BY k HAVING sum(rate) >= ALL (SELECT v FROM events WHERE v IS NOT NULL)
--
SELECT label, rate > ALL ([1, 2]) AS a, rate >= ANY ([k, 2, NULL]) AS b, rate = ALL ([k]) AS c, rate <> ANY ([k, 1]) AS
d, rate < ALL ([k, NULL, 3]) AS e, rate <= ANY ([k]) AS f FROM items
--
SELECT label, rate = ANY ([k, 2]) AS a, rate <> ALL ([k, NULL, 2]) AS b, rate = ANY (l) AS c, rate <> ALL (l) AS d,
rate > ALL (l) AS e FROM (SELECT *, [k, 3, rate - 1] AS l FROM items) AS t
--
SELECT label, k, rate FROM items WHERE (k, rate) NOT IN (SELECT k, v FROM events)
--
SELECT label, (k, rate) NOT IN (SELECT k, v FROM events WHERE id > 3) AS out, (k, rate) IN (SELECT k, v FROM events) AS
b FROM items
--
SELECT label FROM items WHERE (k, rate) NOT IN (SELECT k, v FROM events WHERE k IS NOT NULL AND v IS NOT NULL)
--
SELECT label FROM items WHERE (k, rate) <> ALL (SELECT k, v FROM events WHERE id < 5) OR (k, rate) = ANY (SELECT v, k
FROM events)
--
SELECT label, (SELECT count(*) FROM events AS e WHERE e.v > ALL (SELECT j.rate FROM items AS j WHERE j.k = i.k)) AS n
FROM items AS i
"""

AROUND = """
SELECT k, max(rate) AS m FROM items AS i GROUP BY k HAVING EXISTS (SELECT 1 FROM events AS e WHERE e.v > max(i.rate))
--
SELECT k, (SELECT count(*) FROM events AS e WHERE e.v < sum(i.rate) AND e.k = i.k) AS n FROM items AS i GROUP BY k
--
SELECT k, (SELECT max(i.rate)) AS m, (SELECT max(e.v) + max(i.rate) FROM events AS e WHERE e.k = i.k) AS s FROM items
AS i GROUP BY k
--
SELECT (SELECT count(*) FROM events AS e WHERE e.v >= avg(i.rate)) AS n FROM items AS i
--
SELECT k, (SELECT count(*) FROM events AS e WHERE e.k = i.k AND EXISTS (SELECT 1 FROM items AS j WHERE j.rate = e.v AND
j.rate < max(i.rate))) AS n FROM items AS i GROUP BY k
--
SELECT k FROM items AS i GROUP BY k HAVING max(rate) > ALL (SELECT e.v FROM events AS e WHERE e.id < count(i.label))
"""

IN_OTHER_WORDS = """
SELECT label, (rate, weight) NOT IN (SELECT v, f FROM events AS e WHERE e.k = i.k) AS out FROM items AS i
==
SELECT label, (SELECT CASE WHEN bool_or(rate = v AND weight = f) THEN false WHEN count(*) FILTER (WHERE (rate = v AND
weight = f) IS NULL) > 0 THEN NULL ELSE true END FROM events AS e WHERE e.k = i.k) AS out FROM items AS i
--
SELECT label FROM items AS i WHERE (k, rate) IN (SELECT e.k, max(e.v) FROM events AS e WHERE e.id > i.k GROUP BY e.k)
==
SELECT label FROM items AS i WHERE rate = (SELECT max(e.v) FROM events AS e WHERE e.id > i.k AND e.k = i.k)
--
SELECT label, (k, rate) IN (SELECT e.k, max(e.v) FROM events AS e WHERE e.k <> i.rate GROUP BY e.k) AS a FROM items AS i
==
SELECT label, (SELECT CASE WHEN bool_or(i.k = t.k AND i.rate = t.v) THEN true WHEN count(*) FILTER (WHERE (i.k = t.k AND
i.rate = t.v) IS NULL) > 0 THEN NULL ELSE false END FROM (SELECT e.k, max(e.v) AS v FROM events AS e WHERE e.k <> i.rate
GROUP BY e.k) AS t) AS a FROM items AS i
--
SELECT label, 3 > ALL (CASE WHEN k > 1 THEN [k, 2] END) AS a, 2 = ANY (CASE WHEN k > 1 THEN [k, 2] END) AS b FROM items
==
SELECT label, CASE WHEN k > 1 THEN 3 > k END AS a, CASE WHEN k > 1 THEN true END AS b FROM items
"""
"""What DuckDB does not have, or means otherwise, and the same in its words."""
