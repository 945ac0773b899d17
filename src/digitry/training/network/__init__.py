"""Networks: built, saved, exported, joined."""
