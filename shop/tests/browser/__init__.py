"""The shop as people meet it: in a browser, served by real processes."""
