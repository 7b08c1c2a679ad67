"""What outlives a container: named and anonymous volumes, and where a bind mount's source really is."""
