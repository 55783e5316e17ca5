"""The parts of a service: a process on a Unix socket to which the gateway forwards requests.

Registry and triggers are services. This package holds only what they share:
`process` (one instance, exit codes), `server` (serves until SIGTERM), `database` and `schema`
(durable writes, migrations), `identity`, `errors` and `metrics`.
"""
