"""Search for settings: small grids for retrievers, Optuna studies for rankers."""
