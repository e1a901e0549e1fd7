"""Stripe's objects as plain values, whatever API version wrote them (stripe-domain §2).

A shape is told by the keys that are there, never by the version: the new path is read first, then the old one. What
cannot be read is None, never an error, and an unknown word stays the word it is.

Reading order: ``common``, ``subscription``, ``invoice``, ``payment``.
"""
