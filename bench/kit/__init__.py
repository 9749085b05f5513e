"""What the benchmarks share: places to run in, a small client, writers, peers, statistics, records and pictures."""
