"""The revisions, each in a file of its own; what has been released is never changed."""
