"""Networks, addresses, names and published ports: bridges, /etc/hosts, resolv.conf, nftables and the port
proxy.

Knows nothing of the spec: ``types`` says what it takes and gives. What runs as a process of its own
(``portproxy``) imports the standard library and ``devenv.linux`` alone.
"""
