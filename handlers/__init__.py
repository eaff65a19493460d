"""Whatever calls us from outside: HTTP and commands. The top layer."""
