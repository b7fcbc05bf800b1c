"""Where messages leave and enter: the port in `api`, and one file for each broker."""
