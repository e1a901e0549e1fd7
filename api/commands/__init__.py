"""The commands of the `ledger` command line, one module each; `api.cli` registers them."""
