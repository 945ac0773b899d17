"""The model file: what it holds, how it is checked, found and versioned."""
