"""HTTP to the site and its storage: connections, pools, addresses, bounds."""
