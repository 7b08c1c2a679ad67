"""Files of the project into containers that run: watching, ignoring, batching, and carrying them over.

A mechanism: it is told rules and containers and knows neither the spec nor who decides what a change means. The only
package that may import watchdog and pathspec. ``hand`` and ``wire`` are the standard library and ``devenv.linux``
alone, because they run in a process of their own.
"""
