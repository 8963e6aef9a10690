"""Charts: what each shows, apart from how it is drawn (`svg` here, matplotlib in `report/figures/plot.py`)."""
