"""Networks, addresses, names and published ports: bridges, nftables, the port proxy and the name server.

Knows nothing of the spec: ``types`` says what it takes and gives. What runs as a process of its own
(``portproxy``) imports the standard library, dnslib and ``devenv.linux`` alone.
"""
