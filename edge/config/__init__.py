"""The configuration of `edge run`: one TOML file."""
