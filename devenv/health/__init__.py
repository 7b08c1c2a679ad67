"""Health checks: when to probe and what the answers mean (pure), and the driver that probes.

Running the probe is a function that the caller hands in; nothing here enters a container by itself.
"""
