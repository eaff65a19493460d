"""Who may call: API keys and their limits, the dashboard's password and logins."""
