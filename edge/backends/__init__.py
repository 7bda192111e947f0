"""The only place that touches a TFLite runtime."""
