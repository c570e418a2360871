"""One module per method; each registers one."""
