"""HTTP client connections to the site, its storage and callers' picture URLs: pooling, proxies, address checks."""
