"""From records to tables. Reads records and the registry's descriptions of metrics, and nothing else."""
