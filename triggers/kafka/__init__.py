"""Kafka topics as an event source: records become calls, offsets follow their effect."""
