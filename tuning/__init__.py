"""Search for settings: small grids for retrievers, search spaces and Optuna studies for all else."""
