"""Access control: API keys and their limits, the dashboard's password and logins."""
