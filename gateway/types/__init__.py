"""Types that the gateway's packages share: functions, quantities, errors, scaling. No I/O."""
