"""Makes replicas: zygote, fork, namespaces, sandbox."""
