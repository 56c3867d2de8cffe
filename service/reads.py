"""Every read, as both the HTTP API and the command line ask for it: parameters as text in, the answer's model out."""

from __future__ import annotations

from service.reads_books import BookReads
from service.reads_browsing import BrowseReads
from service.reads_campaigns import CampaignReads
from service.reads_engagement import EngagementReads
from service.reads_members import MemberReads
from service.reads_reports import ReportReads


class Reads(MemberReads, CampaignReads, EngagementReads, BookReads, ReportReads, BrowseReads):
    """The reads over one database; each stands with its subject."""
