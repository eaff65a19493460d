"""From a chat request to the site's answer: conversations, attempts, retries, tokens."""
