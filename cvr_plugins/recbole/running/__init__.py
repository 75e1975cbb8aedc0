"""RecBole runs: configuration, data sets, and the runner."""
