"""What tests and benchmarks run on: a whole platform, an embedded provider, a Kafka broker."""
