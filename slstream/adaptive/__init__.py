"""Which codec the next frame of a link takes, where the topology leaves that open.

A sender has a ladder of chains (:mod:`slstream.adaptive.ladder`). It measures what each of them
would cost (:mod:`slstream.adaptive.measure`) and how fast the link is
(:mod:`slstream.adaptive.link_rate`), and takes the one with the shortest predicted time
(:mod:`slstream.adaptive.controller`) among those that are good enough
(:mod:`slstream.adaptive.quality`).

A choice depends on time, so it is never made twice: each frame names its schema, and a party that
computes a frame again takes the chain that the log names.
"""
