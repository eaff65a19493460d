"""A self-contained LMArena client: it knows nothing of OpenAI, API keys or files on disk."""
