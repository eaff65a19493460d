"""The APIs that callers use, one package each. They read requests and encode answers, and do no I/O."""
