"""The embedded transport: a directory that several processes of one machine share as a log.

    DIR/index.sqlite     topics, partitions, records' places, durable marks (SQLite, WAL mode)
    DIR/segments/        payload files, each written by one transport object only
    DIR/wake/            one datagram socket for each transport object that waits
    DIR/write.lock       held around every write transaction
    DIR/checkpoint.lock  held by the one process that moves the WAL into index.sqlite

An append writes values to the segment file first, then one SQLite transaction assigns the offsets
and makes them visible; a torn segment tail is garbage that nothing refers to. One machine only:
neither SQLite's WAL mode nor the sockets work over a network file system.
"""
