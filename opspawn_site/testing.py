"""pytest plugin: the services a test run needs, started by the run itself."""
