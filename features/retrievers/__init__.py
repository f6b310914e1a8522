"""Retrievers: models that score every item for a user from the user's history."""

from features.retrievers.base import BEHAVIOUR, Retriever
from features.retrievers.content import CONTENT, content_retrievers
from features.retrievers.covisitation import CovisitationRetriever
from features.retrievers.factors import FactorRetriever
from features.retrievers.item_item import ItemItemRetriever
from features.retrievers.kinds import (
    BEHAVIOUR_KINDS,
    check_kind,
    check_parameters,
    fit_behaviour,
    load_retriever,
)
from features.retrievers.popularity import LocalPopularityRetriever, PopularityRetriever
from features.retrievers.projection import ProjectionRetriever
from features.retrievers.propagation import PropagatedRetriever, propagated
from features.retrievers.user_knn import UserKnnRetriever

__all__ = [
    "BEHAVIOUR",
    "BEHAVIOUR_KINDS",
    "CONTENT",
    "CovisitationRetriever",
    "FactorRetriever",
    "ItemItemRetriever",
    "LocalPopularityRetriever",
    "PopularityRetriever",
    "ProjectionRetriever",
    "PropagatedRetriever",
    "Retriever",
    "UserKnnRetriever",
    "check_kind",
    "check_parameters",
    "content_retrievers",
    "fit_behaviour",
    "load_retriever",
    "propagated",
]
