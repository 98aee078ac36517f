"""The daemon on the system bus: `org.updated.Updated1`. The only package of the daemon that imports dbus_next.

What the interface is, as tables: `interface`, `methods`, `properties`. How it works: `connection` (one connection, and
questions to others), `authority` (who may), `service` (our name, calls and signals).

Of dbus_next only messages and the connection are used. Its service classes tell a method's handler nothing about its
caller, answer an exception with its traceback, and can't describe which properties announce a change.
"""
