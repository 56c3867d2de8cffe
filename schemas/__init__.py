"""The contracts: record types, topics, wire format and the rules a record must keep."""
