"""The store of corrections, its migrations, export and import."""
