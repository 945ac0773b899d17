"""The HTTP service: the API and the web page."""
