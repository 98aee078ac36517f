"""The real machine image, booted in QEMU and driven from outside: `make e2e`."""
