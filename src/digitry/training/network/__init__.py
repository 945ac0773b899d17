"""Networks: how they are built, and what files are made of them."""
