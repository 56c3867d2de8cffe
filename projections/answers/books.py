"""What reads of the books answer: frozen models whose JSON is the HTTP body. Points and money are integers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, computed_field


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class BookAccount(_Answer):
    """One account of a brand's books."""

    account: str = Field(description="The account's name", examples=["issued"])
    points: int = Field(description="Signed: what members hold or lost is above zero, where it came from below")
    holds: str = Field(description="What the account holds, in words")


class TieOut(_Answer):
    """One sum, as the accounts say it and as the balances of the members add up to."""

    what: str = Field(description="What is added up", examples=["active"])
    books: int = Field(description="Points, from the accounts")
    members: int = Field(description="Points, in sum over the members")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ties(self) -> bool:
        """Whether both are the same."""
        return self.books == self.members


class BrandBooks(_Answer):
    """The trial balance of a brand at an instant, and its tie-out with the balances of its members."""

    brand: str = Field(description="Brand id", examples=["acme"])
    at: str = Field(description="The instant whose dates decide, UTC", examples=["2026-03-15T12:00:00.000Z"])
    accounts: tuple[BookAccount, ...] = Field(description="Every account of the chart")
    total: int = Field(description="Points of all accounts: zero")
    tie_out: tuple[TieOut, ...] = Field(description="Sums of the members beside the accounts, ending with the identity")
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])

    @property
    def balanced(self) -> bool:
        """Whether the accounts add up to zero and everything ties out."""
        return self.total == 0 and all(line.ties for line in self.tie_out)


class ExpiryMonth(_Answer):
    """Points that expire in one month."""

    month: str | None = Field(
        description="Month of the first instant at which they are expired, in the brand's timezone; null: never",
        examples=["2027-03"],
    )
    pending: int = Field(description="Points still on hold")
    active: int = Field(description="Points that can be spent")


class Liability(_Answer):
    """The points that a brand owes its members at an instant, and what they are worth."""

    brand: str = Field(description="Brand id", examples=["acme"])
    at: str = Field(description="The instant whose dates decide, UTC", examples=["2026-03-15T12:00:00.000Z"])
    timezone: str = Field(description="The brand's, which decides the months")
    currency: str = Field(description="The brand's currency, ISO 4217", examples=["EUR"])
    value_per_1000: int | None = Field(description="Minor units that 1,000 points are worth; null: the brand says none")
    months: tuple[ExpiryMonth, ...] = Field(description="Soonest first, what never expires last; empty ones left out")
    pending: int = Field(description="Points on hold, of all months")
    active: int = Field(description="Points that can be spent, of all months, before debt")
    outstanding: int = Field(description="Points pending and active together")
    value_minor: int | None = Field(
        description="Worth of all outstanding points in minor units, the total rounded half to even; null: no value set"
    )
    debt: int = Field(description="Points that members owe, not taken off anything here")
    debt_value_minor: int | None = Field(description="Worth of the debt in minor units, rounded likewise")
    position: int = Field(description="Ledger position that the answer reflects", examples=[48213])
