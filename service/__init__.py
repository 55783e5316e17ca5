"""What a service is made of: a process that the gateway forwards to, on a Unix socket.

Registry and triggers are services. Here is what they have in common and nothing of what they do:
`process` (one at a time, exit codes), `server` (answers until SIGTERM), `database` and `schema`
(durable writes, migrations), `identity`, `errors` and `metrics`.
"""
