"""OpenAI's older Completions API."""
