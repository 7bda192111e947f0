"""Public models that can be fetched by name: the table, the download, and where they lie afterwards."""
