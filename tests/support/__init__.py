"""What tests share. Nothing in here is collected as a test.

machine.py      what this machine can do, by trying it, and which skips CI accepts
isolation.py    the session's own network and mount namespaces, its folder, its extra users
runner.py       runs the real command line, as any user, with folders of its own
projects.py     writes a project's files
leaks.py        a picture of the machine before and after, and the difference in words
terminal.py     a real terminal, through tmux
polling.py      eventually(): waits for something to become true
"""
