"""Queries for which a view keeps whole rows by key: DuckDB answers each as it stands."""

from __future__ import annotations

AGGREGATES = """
SELECT k, median(v) AS m, quantile_cont(f, 0.25) AS q, quantile_disc(rate, 0.5) AS d FROM both_kinds GROUP BY k
--
SELECT k, mode(label ORDER BY label) AS m, stddev_samp(rate) AS s, var_pop(rate) AS p FROM items GROUP BY k
--
SELECT k, string_agg(label, '|' ORDER BY label DESC, rate) AS s, array_agg(rate ORDER BY rate) AS a
FROM items GROUP BY k
--
SELECT k, bool_and(ok) AS a, bool_or(ok) AS o, bit_xor(v) AS x, approx_count_distinct(v) AS d FROM events GROUP BY k
--
SELECT k, first(label ORDER BY rate DESC, label) AS f, last(rate ORDER BY label, rate) AS l FROM items GROUP BY k
--
SELECT k, arg_max(label, (rate, label)) AS hi, count(DISTINCT (label, rate)) AS n FROM items GROUP BY k
--
SELECT k, array_agg(DISTINCT label ORDER BY label) AS a, sum(DISTINCT rate) AS s FROM items GROUP BY k
--
SELECT k, string_agg(DISTINCT label, ',' ORDER BY label) FILTER (WHERE rate > 0) AS s FROM items GROUP BY k
--
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY rate) AS m, count(DISTINCT k) AS n, median(weight) AS w FROM items
--
SELECT k, count(*) FILTER (WHERE rate > 1) AS n, sum(rate) FILTER (WHERE label = 'a') AS s, max(label) FILTER (WHERE
rate < 3) AS m FROM items GROUP BY k
--
SELECT median(rate) AS m, string_agg(label, '' ORDER BY label) AS s, max(label) AS t FROM items WHERE rate > 99
--
SELECT corr(rate, weight) AS c, regr_slope(rate, weight) AS s FROM items
--
SELECT k, label, count(*) AS n, sum(rate) AS s FROM items GROUP BY GROUPING SETS ((k), (label), (k, label), ())
--
SELECT k, label, count(*) AS n, grouping(k, label) AS g FROM items GROUP BY ROLLUP (k, label)
--
SELECT k % 2 AS odd, label, rate, max(weight) AS m, grouping(label) AS g FROM items GROUP BY k % 2, CUBE (label, rate)
--
SELECT label, count(DISTINCT k) AS n FROM items GROUP BY ROLLUP (label) HAVING count(*) > 1
--
SELECT round(sum(rate), 1) AS r, upper(max(label)) AS u FROM items
--
SELECT k, count(*) AS n, count(DISTINCT v) AS d, count(DISTINCT v) FILTER (WHERE ok) AS o, count(DISTINCT name)
FILTER (WHERE v > 1) AS m, count(DISTINCT name) FILTER (WHERE NOT ok) AS p, max(f) AS top FROM events GROUP BY k
--
SELECT count(DISTINCT label) AS l, sum(DISTINCT rate) AS s, avg(DISTINCT rate) AS a, count(DISTINCT k) FILTER (WHERE
rate > 1) AS d, min(DISTINCT v) AS lo FROM (SELECT label, rate, k, 3 AS v FROM items) AS t
--
SELECT label, sum(DISTINCT rate) FILTER (WHERE weight > 1) AS s, avg(DISTINCT k) AS a, count(rate) AS n, sum(rate) AS t,
count(DISTINCT label) AS one, count(DISTINCT rate) AS r FROM items GROUP BY label
--
SELECT k, name, sum(DISTINCT v) AS s, avg(DISTINCT price) AS a, max(DISTINCT v) AS m FROM events GROUP BY k, name
--
SELECT n, count(DISTINCT k) AS groups FROM (SELECT k, count(DISTINCT v) AS n FROM events GROUP BY k) AS t GROUP BY n
--
SELECT k, count(DISTINCT v) AS n FROM events GROUP BY k HAVING count(DISTINCT v) > 2
"""

JOINS = """
SELECT a.label, a.rate, b.v FROM items AS a ASOF JOIN events AS b ON a.k = b.k AND a.rate >= b.v
--
SELECT a.label, b.rate FROM items AS a ASOF LEFT JOIN items AS b ON a.k = b.k AND a.weight > b.rate
--
SELECT e.id, i.rate FROM events AS e ASOF LEFT JOIN items AS i ON e.k = i.k AND i.rate >= e.v WHERE e.id > 3
--
SELECT e.id, i.rate FROM events AS e ASOF JOIN items AS i ON e.v < i.rate WHERE i.rate > 1
--
SELECT k, rate, b.n FROM items AS a ASOF LEFT JOIN (SELECT k, rate, count(*) AS n FROM items GROUP BY k, rate) AS b
USING (k, rate)
--
SELECT e.id, a.label, b.rate FROM events AS e JOIN (items AS a LEFT JOIN items AS b ON a.rate = b.k) ON e.k = a.k
--
SELECT e.id, duo.label FROM events AS e LEFT JOIN ((items AS a JOIN (SELECT k AS key, rate AS r FROM items) AS b
ON a.rate = b.key) CROSS JOIN (SELECT count(*) AS n FROM events) AS c) AS duo ON e.k = duo.k AND e.v < duo.n
--
SELECT a.label, b.label AS other, c.n FROM (items AS a JOIN items AS b USING (k)) LEFT JOIN (SELECT rate, count(*) AS n
FROM items GROUP BY rate) AS c ON a.rate = c.rate
--
SELECT e.id, a.label, b.rate, c.weight, d.top, f.v FROM events AS e JOIN items AS a ON e.k = a.k LEFT JOIN items AS b ON
b.k = a.rate JOIN items AS c ON c.rate = e.v LEFT JOIN (SELECT k, max(rate) AS top FROM items GROUP BY k) AS d ON d.k =
b.rate JOIN events AS f ON f.id = e.v WHERE a.weight > 0 AND c.weight < 1
--
SELECT e.id, i.label FROM events AS e LEFT JOIN items AS i ON e.k = i.k
--
SELECT e.id, i.label, i.rate FROM events AS e RIGHT JOIN items AS i ON e.k = i.k AND e.v > i.rate
--
SELECT e.id, i.label, i.rate FROM events AS e FULL JOIN items AS i ON e.k = i.k AND e.v = i.rate AND i.label <> 'a'
--
SELECT e.id, i.rate FROM events AS e LEFT JOIN items AS i ON e.k = i.k AND e.v > 0 AND i.rate > 0 WHERE e.ok
--
SELECT e.id, i.rate FROM events AS e LEFT JOIN items AS i ON e.k = i.k WHERE i.rate IS NULL OR i.rate > 2
--
SELECT a.label AS one, b.label AS two FROM items AS a FULL JOIN items AS b ON a.rate = b.k
--
SELECT e.id, i.rate FROM events AS e LEFT JOIN items AS i ON e.k = i.k AND e.v::varchar < i.rate::varchar
--
SELECT a.label, b.rate FROM items AS a JOIN items AS b ON a.rate::varchar > b.k::varchar || b.label
--
SELECT a.label FROM items AS a WHERE NOT EXISTS (SELECT 1 FROM items AS b WHERE a.k = b.k
AND a.rate::text > b.weight::text)
--
SELECT k, a.label, b.weight FROM items AS a FULL JOIN items AS b USING (k) WHERE a.rate = 1 OR b.rate = 3
--
SELECT k, e.id, i.label FROM events AS e RIGHT JOIN items AS i USING (k)
--
SELECT * FROM (SELECT k, label FROM items) AS a NATURAL JOIN (SELECT k, max(rate) AS top FROM items GROUP BY k) AS b
--
SELECT e.id, i.label, g.n FROM events AS e LEFT JOIN items AS i ON e.k = i.k LEFT JOIN (SELECT k, count(*) AS n
FROM items GROUP BY k) AS g ON g.k = i.k
--
SELECT i.label, g.top FROM items AS i CROSS JOIN (SELECT max(rate) AS top FROM items) AS g
--
SELECT a.label, b.label AS other FROM items AS a, items AS b WHERE a.rate < b.rate AND a.k = 1
--
SELECT a.rate, b.n FROM items AS a LEFT JOIN (SELECT k, count(*) AS n FROM items GROUP BY k) AS b ON a.rate > b.n
--
SELECT i.label FROM items AS i SEMI JOIN events AS e ON i.k = e.k AND e.v > i.rate
--
SELECT i.label FROM items AS i ANTI JOIN events AS e ON i.k = e.k
--
SELECT i.label, e.id FROM items AS i JOIN events AS e ON i.k = e.v
--
SELECT i.label, e.id FROM items AS i LEFT JOIN events AS e ON i.rate = e.price
--
SELECT e.id, e.v, g.k AS key FROM events AS e JOIN (SELECT k, max(v) AS m FROM events GROUP BY k) AS g ON e.v = g.m AND
g.k = e.k
--
SELECT e.id, g.m FROM (SELECT k, name, min(price) AS m FROM events WHERE ok GROUP BY k, name) AS g JOIN (SELECT * FROM
events WHERE ok) AS e ON e.price = g.m AND g.k = e.k AND e.name = g.name WHERE e.v > 0 OR g.m > 1
--
SELECT e.id, e.v FROM events AS e JOIN (SELECT k, max(v) AS m FROM events WHERE ok GROUP BY k) AS g ON e.v = g.m AND
g.k = e.k
--
SELECT i.label, i.rate FROM items AS i JOIN (SELECT k, max(rate) AS m FROM items GROUP BY k) AS g ON i.rate = g.m AND
i.k = g.k
--
SELECT a.k, count(b.k) AS n, sum(b.rate) AS s FROM items AS a LEFT JOIN items AS b ON a.k = b.k AND
b.rate > 1 GROUP BY a.k
--
SELECT i.label FROM items AS i LEFT JOIN (SELECT max(v) AS m FROM events) AS g ON true
--
SELECT i.label FROM (SELECT max(v) AS m FROM events) AS g LEFT JOIN items AS i ON i.rate > 1
--
SELECT i.label FROM items AS i FULL JOIN (SELECT count(*) AS n FROM events HAVING count(*) > 70) AS g ON i.k > 1
--
SELECT i.label FROM items AS i SEMI JOIN (SELECT max(v) AS m FROM events HAVING count(*) > 70) AS g ON i.k > 1
--
SELECT count(*) AS n FROM (SELECT max(v) AS m FROM events) AS g LEFT JOIN (SELECT min(rate) AS r FROM items) AS h
ON true
"""

SUBQUERIES = """
SELECT label, rate FROM items WHERE k IN (SELECT v FROM events)
--
SELECT label, rate FROM items WHERE rate NOT IN (SELECT v FROM events WHERE v IS NOT NULL AND v > 2)
--
SELECT label, rate FROM items WHERE rate NOT IN (SELECT v FROM events)
--
SELECT label, rate FROM items WHERE rate NOT IN (SELECT v FROM events WHERE v > 99)
--
SELECT label, rate FROM items AS i WHERE EXISTS (SELECT 1 FROM events AS e WHERE e.k = i.k AND e.v > i.rate)
--
SELECT label, rate FROM items AS i WHERE NOT EXISTS (SELECT 1 FROM events AS e WHERE e.k = i.k AND ok)
--
SELECT label FROM items WHERE EXISTS (SELECT 1 FROM events WHERE v > 3)
--
SELECT label, rate > (SELECT avg(v) FROM events) AS above FROM items
--
SELECT label, (SELECT max(v) FROM events AS e WHERE e.k = i.k) AS top FROM items AS i
--
SELECT label, (SELECT count(*) + 1 FROM events AS e WHERE e.k = i.k AND e.v > 0) AS n FROM items AS i
--
SELECT label, k IN (SELECT v FROM events) AS inside, rate NOT IN (SELECT v FROM events WHERE k = 1) AS out FROM items
--
SELECT label, EXISTS (SELECT 1 FROM events AS e WHERE e.v = i.rate) AS there FROM items AS i
--
SELECT label, rate IN (SELECT v FROM events AS e WHERE e.k = i.k) AS there FROM items AS i
--
SELECT k, sum(rate) AS s FROM items GROUP BY k HAVING sum(rate) > (SELECT avg(v) FROM events)
--
SELECT k, count(*) AS n, (SELECT max(v) FROM events) AS top FROM items GROUP BY k
--
SELECT i.label, t.n FROM items AS i, LATERAL (SELECT count(*) AS n FROM events AS e WHERE e.k = i.k) AS t
--
SELECT i.label, t.id FROM items AS i, LATERAL (SELECT id FROM events AS e WHERE e.k = i.k ORDER BY
id DESC LIMIT 2) AS t
--
SELECT i.label, t.v FROM items AS i LEFT JOIN LATERAL (SELECT max(v) AS v FROM events AS e WHERE
e.k = i.k GROUP BY e.name)
AS t ON true
--
SELECT label FROM items AS i WHERE rate = (SELECT max(rate) FROM items AS j WHERE j.k = i.k)
--
SELECT label FROM items WHERE (k, rate) IN (SELECT k, max(rate) FROM items GROUP BY k)
--
SELECT label FROM items WHERE rate = ANY (SELECT v FROM events) OR k = 1
"""

ROWS = """
SELECT k, label, rate FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY rate DESC, label,
weight) AS rn FROM items)
AS t WHERE rn <= 2
--
SELECT k, label, rk FROM (SELECT *, rank() OVER (PARTITION BY k ORDER BY rate) AS rk FROM items) AS t WHERE rk <= 2
--
SELECT k, rate, dense_rank() OVER (PARTITION BY k ORDER BY rate) AS d, percent_rank() OVER (ORDER
BY rate) AS p FROM items
--
SELECT id, lag(v) OVER (PARTITION BY k ORDER BY id) AS before, lead(v, 2, -1) OVER (PARTITION BY k
ORDER BY id) AS later
FROM events
--
SELECT id, sum(v) OVER (PARTITION BY k ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS s, count(*) OVER
(PARTITION BY name) AS n FROM events
--
SELECT id, sum(v) OVER w AS s, min(v) OVER (w ORDER BY v RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS m FROM events
WINDOW w AS (PARTITION BY k)
--
SELECT k, rate, last_value(rate) OVER (PARTITION BY k ORDER BY rate) AS l, first_value(rate) OVER
(PARTITION BY k ORDER BY
rate DESC) AS f, max(weight) FILTER (WHERE rate > 1) OVER (PARTITION BY k) AS m FROM items
--
SELECT id, first_value(name IGNORE NULLS) OVER (PARTITION BY k ORDER BY id) AS f FROM events
--
SELECT k, sum(rate) AS s, rank() OVER (ORDER BY sum(rate) DESC, k) AS r FROM items GROUP BY k
--
SELECT k, label FROM items QUALIFY row_number() OVER (PARTITION BY k ORDER BY rate, label, weight) = 1
--
SELECT DISTINCT ON (k) k, label, rate FROM items ORDER BY k, rate DESC, label
--
SELECT id, v FROM events ORDER BY v DESC, id LIMIT 7
--
SELECT id, v FROM events ORDER BY v DESC, id LIMIT 7 OFFSET 3
--
SELECT k, count(*) AS n FROM items GROUP BY k ORDER BY count(*) DESC, k NULLS FIRST LIMIT 2
--
SELECT DISTINCT k, rate FROM items ORDER BY rate, k LIMIT 5
--
SELECT id FROM events UNION ALL SELECT rate FROM items ORDER BY 1 LIMIT 6
--
SELECT k, label, count(*) OVER (PARTITION BY k) AS n FROM items WHERE rate > 0
--
SELECT k FROM items INTERSECT SELECT v FROM events
--
SELECT k, rate FROM items EXCEPT SELECT k, v FROM events
--
SELECT k FROM items INTERSECT ALL SELECT k FROM events
--
SELECT k FROM events EXCEPT ALL SELECT k FROM items
--
SELECT k FROM items UNION SELECT v FROM events
--
SELECT id, x FROM events, unnest([v, k, 7]) AS u(x) WHERE x > 1
--
SELECT id, unnest([v, k]) AS x FROM events
--
SELECT i.label, g FROM items AS i, generate_series(1, i.rate) AS t(g)
--
SELECT x, count(*) AS n FROM (SELECT unnest([rate, k]) AS x FROM items) AS t GROUP BY x
--
SELECT k, id, place FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY v DESC, id) AS place FROM events) AS t
WHERE place <= 3
--
SELECT id, name FROM (SELECT *, rank() OVER (PARTITION BY name, ok ORDER BY v, id) AS place FROM events) AS t
WHERE place < 3 AND v > 0
--
SELECT k, max(v) AS m, count(*) AS n FROM (SELECT *, dense_rank() OVER (PARTITION BY k ORDER BY price) AS place
FROM events) AS t WHERE 2 >= place AND place > 1 GROUP BY k
--
SELECT DISTINCT ON (k, name) k, name, v FROM events ORDER BY k, name, v DESC, id
--
SELECT i.label, t.id FROM items AS i JOIN (SELECT k, id, row_number() OVER (PARTITION BY k ORDER BY f, id) AS place
FROM events) AS t ON i.k = t.k WHERE t.place = 1
--
SELECT k, ntile(3) OVER (PARTITION BY k ORDER BY id) AS t, nth_value(v, 2) OVER (PARTITION BY k
ORDER BY id ROWS BETWEEN
UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS s FROM events
"""


def listed(text: str) -> list[str]:
    return [" ".join(q.split()) for q in text.split("--\n")]
