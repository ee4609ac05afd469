"""The wiring of Opspawn: settings, doors, and the fleet that runs on one machine."""
VERSION = "0.1.0"
