"""Every read, as both the HTTP API and the command line ask for it: parameters as text in, the answer's model out."""

from __future__ import annotations

from service.reads.books import BookReads
from service.reads.browsing import BrowseReads
from service.reads.campaigns import CampaignReads
from service.reads.engagement import EngagementReads
from service.reads.members import MemberReads
from service.reads.reports import ReportReads


class Reads(MemberReads, CampaignReads, EngagementReads, BookReads, ReportReads, BrowseReads):
    """The reads over one database; each stands with its subject."""
