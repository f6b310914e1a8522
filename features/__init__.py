"""Tables and their contract, splits, candidates, modality encoders, behaviour models and the RankingFrame."""
