"""Networks: build, save, export and join them."""
