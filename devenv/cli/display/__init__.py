"""How progress is shown: sinks for ``devenv.events``, one a kind of output. They decide nothing."""
