"""From a process that may fork to a replica in its sandbox."""
