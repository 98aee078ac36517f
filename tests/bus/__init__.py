"""The interface on the bus, before a real dbus-daemon, and judged by busctl."""
