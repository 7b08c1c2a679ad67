"""The front proxy, `https://SERVICE.PROJECT.localhost`: who is called what, certificates, and HTTP by aiohttp.

Only what `devenv proxy` runs imports aiohttp and cryptography, which are an extra. It reads what devenv has written
down about projects and asks their port proxies for sockets; it changes nothing of theirs.
"""
