"""Language models that answer questions about users and items: yes or no, or one of given words."""

from features.language.answers import Answers
from features.language.budget import Budget, BudgetSpentError
from features.language.endpoint import Endpoint, EndpointSettings
from features.language.judge import Judge, Judgement, relevance_prompt
from features.language.local import LocalModel
from features.language.protocol import LanguageModel

__all__ = [
    "Answers",
    "Budget",
    "BudgetSpentError",
    "Endpoint",
    "EndpointSettings",
    "Judge",
    "Judgement",
    "LanguageModel",
    "LocalModel",
    "relevance_prompt",
]
