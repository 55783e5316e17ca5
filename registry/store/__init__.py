"""What is kept, one module an aggregate: functions of a connection, in the caller's transaction."""
