"""What the API is, for programs (/openapi.json) and for people (/docs), made of the table of its calls."""
