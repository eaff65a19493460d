"""The process: the composition root, the listening sockets, signals, systemd."""
