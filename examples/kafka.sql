-- Revenue by minute and customer, from one Kafka topic into another.
-- The topics `orders` and `revenue` have to be there.
CREATE SOURCE orders (
  customer VARCHAR,
  amount DECIMAL(12, 2),
  ordered_at TIMESTAMP,
  WATERMARK FOR ordered_at AS ordered_at - INTERVAL '5 seconds'
) WITH (
  connector = 'kafka',
  topic = 'orders',
  properties.bootstrap.servers = 'localhost:9092'
) FORMAT PLAIN ENCODE JSON;

-- each window appears once, when it is complete
CREATE MATERIALIZED VIEW revenue AS
SELECT window_start, customer, count(*) AS orders, sum(amount) AS amount
FROM TUMBLE(orders, ordered_at, INTERVAL '1 minute')
GROUP BY window_start, customer
EMIT ON WINDOW CLOSE;

CREATE SINK revenue_out FROM revenue WITH (
  connector = 'kafka',
  topic = 'revenue',
  properties.bootstrap.servers = 'localhost:9092',
  key = 'customer'
) FORMAT PLAIN ENCODE JSON;
