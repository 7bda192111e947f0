"""What makes a run of many cameras a service: systemd, watchdog, health and metrics over HTTP."""
