"""Durable asynchronous calls: committed before their 202, run at least once, kept for a while."""
