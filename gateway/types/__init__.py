"""What the gateway's packages have in common: functions, errors, scaling. No I/O."""
