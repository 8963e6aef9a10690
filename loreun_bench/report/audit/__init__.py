"""Published tables: what in them cannot be, does not add up, or was not compared on equal terms."""
