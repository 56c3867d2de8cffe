"""Engagement panes side by side: the same counts by other stream processors, on one workload and one Apache Kafka.

Per event a subject decodes the whole `Interaction` and adds one to two durable counts: of the campaign, kind and five
minutes, and of the member and five minutes. `python -m benchmarks.peers.run` plays them all and checks every count.

A subject is a program. It reads `--topic` of `--bootstrap` from the beginning and ends after `--records`; it keeps its
files in its working directory, which is a fresh one; it prints one line of JSON (`subject`, `records`, `seconds`,
`cpu_seconds`, `rss_mb`) and with `--dump` it writes its counts, a line each. The interval is the same for all: from
the first record's arrival in the code that counts, until the changelog is acknowledged and the positions of all
records are committed (Faust commits those by a timer and not with its tables: there it ends before). What comes before
(interpreter, JVM, imports, group join) and after (leaving the group, closing stores, the dump) is not in it. CPU is of
the subject's process in that interval, memory its peak until then.
"""
