"""What the operator costs: alone against its peers (`ops`), and per training step (`rte`). Nothing here prints."""
