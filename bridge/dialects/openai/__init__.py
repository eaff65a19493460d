"""OpenAI's Chat Completions, Images and Models APIs."""
