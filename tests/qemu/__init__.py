"""The real bootloaders, each with what is shipped for it, on small machines in QEMU."""
