"""What ``devenv ui`` shows: ``model`` looks, ``feed`` follows the logs, ``children`` acts, ``app`` draws."""
