"""The API reference, generated from the table of calls: /openapi.json for programs, /docs for people."""
