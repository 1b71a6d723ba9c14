-- A plant's thermometers by machine; what is too hot goes back to the broker as an alarm.
CREATE SOURCE readings (
  celsius DOUBLE
) INCLUDE topic AS topic
WITH (
  connector = 'mqtt',
  url = 'mqtt://localhost:1883',
  topic = 'plant/+/temperature'
) FORMAT PLAIN ENCODE JSON;

CREATE MATERIALIZED VIEW machines AS
SELECT split_part(topic, '/', 2) AS machine, count(*) AS readings, avg(celsius) AS mean, max(celsius) AS hottest
FROM readings
GROUP BY split_part(topic, '/', 2);

CREATE SINK alarms AS
SELECT split_part(topic, '/', 2) AS machine, celsius
FROM readings
WHERE celsius > 80
WITH (
  connector = 'mqtt',
  url = 'mqtt://localhost:1883',
  topic = 'plant/alarms'
) FORMAT PLAIN ENCODE JSON;
