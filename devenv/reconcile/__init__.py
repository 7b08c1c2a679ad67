"""Where what is wanted meets what is there: observe, plan (pure), execute, and look again.

The only place that knows both the project and the mechanisms. ``convert`` turns a service into what the
runtime takes; ``doctor`` says what this machine can't give. Nothing here talks to a user.
"""
