"""What people corrected, kept and handed on."""
