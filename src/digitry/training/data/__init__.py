"""Data sets: found, checked, and brought into the form that training takes."""
