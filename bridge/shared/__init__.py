"""State that several processes share, in Redis or Valkey. Nothing here is imported unless `redis.url` is set."""
