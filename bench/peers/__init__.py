"""desist beside packages that keep runs or jobs: `python -m bench.peers`. Each package has its own environment."""
