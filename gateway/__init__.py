"""The gateway: knows functions, their replicas and their callers, nothing of what they compute."""
