"""The common part of `OpenAIChat` and `OpenAIResponses`: key, base URL, organization."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import KW_ONLY, dataclass

from desist.models.http.clients import Settings
from desist.models.http.model import HttpModel
from desist.models.http.sdk import Sdk

__all__ = ["OpenAIModel"]


@dataclass
class OpenAIModel(HttpModel):
    """A model of OpenAI or of a compatible server.

    Args:
        organization: default: OPENAI_ORG_ID.
    """

    id: str = "gpt-5-mini"
    provider: str | None = "OpenAI"
    _: KW_ONLY
    organization: str | None = None

    _sdk = Sdk.openai
    _own_url = "https://api.openai.com/v1"

    def _settings(self) -> Settings:
        organization = self.organization or os.environ.get("OPENAI_ORG_ID")
        return dataclasses.replace(super()._settings(), organization=organization)
