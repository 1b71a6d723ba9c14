"""The optimizer's rules, one verb a file: functions from a logical plan to an equivalent one."""
