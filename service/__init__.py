"""The composition root: settings, command line, HTTP API, embedded stack, importers and demo."""
