"""The process: the app and all its parts, the listening socket, signals, systemd."""
