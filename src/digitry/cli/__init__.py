"""The command line: parse, one public call, print. Heavy imports sit inside each command."""
