"""Dunning: what befell invoices, in every shape and order."""
