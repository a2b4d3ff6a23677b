"""A real one-node Kubernetes in a network namespace of its own, for tests and demonstrations.

Not a way to run Kubernetes for anything else: one node, no upgrades, no data worth keeping.
"""
